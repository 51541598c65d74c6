# Three Docker hosts: core-01, core-02 and core-03. They start in parallel, each
# with a Docker port of its own:
#
#     hostctl up
#     eval "$(hostctl env core-02)"
#     docker info

variable "machines" {
  type        = number
  default     = 3
  description = "How many hosts to run: hostctl up -var machines=5"
}

machine "core" {
  count = var.machines

  image  = "dockerhost"
  cpus   = 1
  memory = "1GiB"

  # index counts the machines from 0: 2375, 2376, 2377.
  forward "docker" {
    guest = 2375
    host  = 2375 + index
  }
}
