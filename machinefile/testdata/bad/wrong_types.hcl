machine "core" {
  image  = ["dockerhost"]
  cpus   = "two"
  memory = true
  disk   = 20

  docker {
    enabled = "maybe"
    port    = "high"
  }

  forward "web" {
    guest        = 80.5
    host         = 70000
    host_ip      = 127
    auto_correct = {}
  }
}
