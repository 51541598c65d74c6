machine "core" {
  image = "dockerhost
  cpus  = 2
}

machine "web" {
  image = "dockerhost"
}
