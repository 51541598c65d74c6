network "hostonly" "dev" { cidr = "172.28.8.0/24" }
network "bridged" "lan" { interface = ["en1: Wi-Fi (AirPort)", "eth0"] }

machine "core" {
  provider = "libvirt"
  image    = "dockerhost"

  network "dev" { address = cidrhost("172.28.8.0/24", 101 + index) }
  network "lan" {}

  docker {
    tls     = true
    context = "core"
    registry "mirror.example" {}
  }
  share "code" {
    type  = "nfs"
    host  = "~/code"
    guest = "/home/core/share"
  }
  provision "shell" {}
  dynamic "share" {
    for_each = []
    content {}
  }
  user_data = file("user-data")
}

machine "box" {
  provider = "virtualbox"
  image    = "dockerhost"
}
