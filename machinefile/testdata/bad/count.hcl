machine "both" {
  count    = 2
  for_each = { a = 1 }
  image    = "dockerhost"
}

machine "negative" {
  count = -1
  image = "dockerhots"
}

machine "fraction" {
  count = 1.5
  image = "dockerhost"
}

machine "many" {
  count = 1000000
  image = "dockerhost"
}

machine "none" {
  count  = 0
  image  = "dockerhost"
  memory = "1GB"
}

machine "list" {
  for_each = ["a", "b"]
  image    = "dockerhost"
}

machine "text" {
  for_each = "a"
  image    = "dockerhost"
}

machine "null" {
  for_each = null
  image    = "dockerhost"
}
