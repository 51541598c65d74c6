machine "core" {
  memory = "1GiB"
}

machine "null" {
  image = null
}
