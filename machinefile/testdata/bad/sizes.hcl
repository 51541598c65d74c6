machine "decimal" {
  image  = "dockerhost"
  memory = "1GB"
  disk   = "20 gb"
}

machine "bare" {
  image  = "dockerhost"
  memory = "1024"
  disk   = "-1GiB"
}

machine "small" {
  image  = "dockerhost"
  memory = "64MiB"
  disk   = "0GiB"
}

machine "odd" {
  image  = "dockerhost"
  memory = "1.0001GiB"
  disk   = "99999999999TiB"
}
