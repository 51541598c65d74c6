# -var prot=2375
# -var ports=[2375, "high"]
# -var lists=[1
# -var not-a-pair
# HOSTCTL_VAR_flag=perhaps
# HOSTCTL_VAR_of_another_project=1
variable "port" {
  type = nummer
}

variable "required" {
  type        = string
  description = "Nobody gives this one a value."
}

variable "default" {
  type    = number
  default = "many"
}

variable "flag" {
  type = bool
}

variable "ports" {
  type = list(number)
}

variable "lists" {
  type = list(number)
}

variable "hosts" {
  type    = map(object({ port = number, label = optional(string, "web") }))
  default = { a = { port = 80 }, b = { port = "x" } }
}

variable "call" {
  default = lower("A")
}

variable "described" {
  default     = 1
  description = ["a", "list"]
  sensitive   = true
}

machine "core" {
  image  = "dockerhost"
  memory = var.required
  cpus   = var.default
}
