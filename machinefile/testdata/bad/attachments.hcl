network "hostonly" "dev" { cidr = "172.28.8.0/24" }
network "hostonly" "small" { cidr = "172.28.9.8/29" }
network "bridged" "lan" { interface = "eth0" }
network "hostonly" "wrong" { cidr = "172.17.8.0/24" }

machine "unknown" {
  image = "dockerhost"

  network "dve" { address = "172.28.8.100" }
  network "wlan0" {}
  network "dev" {}
  network "dev" { address = "172.28.8.101" }
}

machine "wrong" {
  count = 2
  image = "dockerhost"

  network "wrong" { address = "172.17.8.101" }
  network "lan" { address = "192.168.1.7" }
}


machine "name" {
  image = "dockerhost"

  network "dev" { address = "core-01" }
}
machine "length" {
  image = "dockerhost"

  network "dev" { address = "172.28.8.101/24" }
}
machine "ipv6" {
  image = "dockerhost"

  network "dev" { address = "fd00::101" }
}
machine "outside" {
  image = "dockerhost"

  network "dev" { address = "172.17.8.101" }
  network "small" { address = "172.28.9.101" }
}
machine "network" {
  image = "dockerhost"

  network "dev" { address = "172.28.8.0" }
  network "small" { address = "172.28.9.8" }
}
machine "host" {
  image = "dockerhost"

  network "dev" { address = cidrhost("172.28.8.0/24", 1) }
}
machine "broadcast" {
  image = "dockerhost"

  network "dev" { address = "172.28.8.255" }
}

machine "core" {
  count = 2
  image = "dockerhost"

  network "dev" { address = cidrhost("172.28.8.0/24", 101) }
}
machine "again" {
  image = "dockerhost"

  network "dev" { address = "172.28.8.101" }
}
machine "beyond" {
  count = 200
  image = "dockerhost"

  network "dev" { address = cidrhost("172.28.8.0/24", 110 + index) }
}
machine "many" {
  count = 6
  image = "dockerhost"

  network "small" { mac = "52:54:00:12:34:56" }
}
machine "labels" {
  image = "dockerhost"

  network "hostonly" "dev" {}
  network {}
  dynamic "network" {
    for_each = ["small", "middle", "large"]
    labels   = [network.value]
    content { address = "x" }
  }
}
