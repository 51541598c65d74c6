machine "core" {
  image  = "dockerhost"
  memory = 1GiB
}
