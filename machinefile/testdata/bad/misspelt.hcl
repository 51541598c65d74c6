variable "docker_port" {
  default = 2375
}

locals {
  memory = "1GiB"
}

image "coreos" {
  source = "flatcra"
  chanel = "stable"
}

machine "core" {
  image    = image.coreso
  memry    = local.memroy
  provider = "qemuu"
  accel    = "kmv"

  dcoker {}

  forward "docker" {
    guest    = 2375
    host     = var.docker_prt
    protocol = "tpc"
  }
}

machnie "web" {}
