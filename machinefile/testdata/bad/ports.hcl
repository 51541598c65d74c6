machine "core" {
  count = 3
  image = "dockerhost"

  forward "docker" {
    guest = 2375
    host  = 2375
  }
}

machine "all" {
  image = "dockerhost"

  forward "web" {
    guest   = 80
    host    = 2375
    host_ip = "0.0.0.0"
  }
  forward "same_number_other_protocol" {
    guest    = 80
    host     = 2375
    protocol = "udp"
  }
  forward "next_free" {
    guest        = 80
    host         = 2375
    auto_correct = true
  }
}

machine "reserved" {
  image = "dockerhost"

  docker {
    port = 22
  }
  forward "ssh" {
    guest = 2222
    host  = 2222
  }
  forward "docker" {
    guest = 80
    host  = 8080
  }
}

machine "addresses" {
  image = "dockerhost"

  forward "name" {
    guest   = 80
    host    = 8081
    host_ip = "localhost"
  }
  forward "cidr" {
    guest   = 80
    host    = 8082
    host_ip = "192.168.1.0/24"
  }
  forward "multicast" {
    guest   = 80
    host    = 8083
    host_ip = "224.0.0.1"
  }
}

machine "no-follow-up" {
  image = "dockerhost"

  docker {
    port = 70000
  }
  forward "web" {
    guest   = 2375
    host    = 2375
    host_ip = "0.0.0"
  }
}
