# -var port=80
variable "port" {
  type    = number
  default = 8080

  validation {
    condition     = var.port > 1024
    error_message = "Ports up to 1024 belong to the system."
  }
}

variable "name" {
  default = "core"

  validation {
    condition = length(var.nmae) > 3
  }
}

machine "core" {
  image = "dockerhost"
}
