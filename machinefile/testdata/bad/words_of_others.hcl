# What people write who come from Vagrant, Lima or Compose.
synced_folder "./src" "/srv/src" {}

mounts = ["~/code"]

machine "vagrant" {
  box      = "dockerhost"
  hostname = "web"

  synced_folder "./src" "/srv/src" {}
  forwarded_port {
    guest = 80
    host  = 8080
  }
}

machine "lima" {
  image  = "dockerhost"
  name   = "lima"
  mounts = [{ location = "~/code" }]

  mount {
    location = "~/code"
  }
  portForwards {
    guestPort = 80
  }
}

machine "compose" {
  image   = "dockerhost"
  volumes = ["./code:/code"]
  ports   = ["8080:80"]
  shares  = []
}
