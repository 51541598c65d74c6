variable "a" { default = 1 }
variable "a" { default = 2 }

locals { b = 1 }
locals { b = 2 }

image "c" { source = "dockerhost" }
image "c" { source = "flatcar" }

machine "core" {
  count = 2
  image = image.c

  docker {}
  docker {}

  forward "web" {
    guest = 80
    host  = 8080 + index
  }
  forward "web" {
    guest = 81
    host  = 8180 + index
  }
}

machine "core-02" {
  image = image.c
}
