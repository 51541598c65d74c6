machine "core" {
  count  = 3
  image  = lowr("DOCKERHOST")
  memory = format("%dGiB", "one")
  cpus   = max()
  disk   = env("HOSTCTL_TEST_NOT_SET")
}
