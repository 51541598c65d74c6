machine "core" {
  image = "dockerhost"

  forward "web" {
    guest   = 80
    host    = 8080
    host_ip = "::1"
  }
  forward "all" {
    guest   = 81
    host    = 8081
    host_ip = "::"
  }
  forward "mapped" {
    guest   = 82
    host    = 8082
    host_ip = "::ffff:127.0.0.1"
  }
}
