# One Docker host. Start it with "hostctl up", then point the Docker client at it:
#
#     eval "$(hostctl env)"
#     docker info

machine "core-01" {
  image  = "dockerhost"
  memory = "1GiB"

  # The guest's Docker port, on this computer only.
  forward "docker" {
    guest        = 2375
    host         = 2375
    auto_correct = true # the next free port when 2375 is in use
  }
}
