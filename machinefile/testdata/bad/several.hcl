machine "a" {
  image = "dockerhost"
  ram   = "1GiB"
}

machine "b" {
  image  = "dockerhost"
  memory = "1GB"
}

machine "c" {
  image = "dockerhost"

  provision "shell" {}
}
