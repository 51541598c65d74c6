machine "core" {
  image = "dockerhost"

  docker {
    port = 2375
