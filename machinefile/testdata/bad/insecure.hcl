machine "core" {
  image = "dockerhost"

  docker {
    port = 4243
  }
  forward "api" {
    guest   = 4243
    host    = 2375
    host_ip = "0.0.0.0"
  }
  forward "lan" {
    guest   = 4243
    host    = 2376
    host_ip = "192.168.1.7"
  }
}
