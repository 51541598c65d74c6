variable "size" {
  default = "1GiB"
}

locals {
  number = index
  every  = local
}

machine "core" {
  count  = 2
  image  = "dockerhost"
  memory = size
  disk   = each.value
  cpus   = count.index + 1
}

machine "web" {
  for_each = { a = "1GiB" }
  image    = "dockerhost"
  memory   = each.vlaue
  disk     = vra.size
}
