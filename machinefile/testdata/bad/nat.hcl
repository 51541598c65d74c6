network "hostonly" "dev" { cidr = "172.28.8.0/24" }
network "bridged" "lan" {}

machine "qemu" {
  image = "dockerhost"
  nat   = false

  network "dev" {}
}
machine "alone" {
  provider = "libvirt"
  image    = "dockerhost"
  nat      = false
}
machine "bridged" {
  provider = "libvirt"
  image    = "dockerhost"
  nat      = false

  network "lan" {}
  docker { enabled = false }
  forward "ssh" {
    guest = 22
    host  = 2222
  }
  forward "web" {
    guest = "8000-8002"
    host  = "8000-8002"
  }
}
machine "hostonly" {
  provider = "libvirt"
  image    = "dockerhost"
  nat      = false

  network "dev" {}
}
machine "no-follow-up" {
  provider = "virtualbux"
  image    = "dockerhost"
  nat      = false
}
machine "no-follow-up-either" {
  provider = "libvirt"
  image    = "dockerhost"
  nat      = false

  network "dve" {}
}
machine "text" {
  image = "dockerhost"
  nat   = "no"
}
