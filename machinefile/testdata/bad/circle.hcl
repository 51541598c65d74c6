locals {
  a = local.b
  b = "${local.c}GiB"
  c = local.a
  d = local.d
  e = "1GiB"
}

machine "core" {
  image  = "dockerhost"
  memory = local.b
  disk   = local.e
}
