machine "core" {
  image = "dockerhost"
  image = "flatcar"
}

machine "web" {
  image = = "dockerhost"
}

machine web {
  cpus: 2
}
