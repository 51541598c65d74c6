# Three Docker hosts on a network of their own and this computer's. They find
# each other by name:
#
#     hostctl up
#     hostctl ssh core-01 -c 'ping -c 1 core-02'
#
# Where this computer is on the network, too (hostctl up says when it is not), it
# reaches them by their addresses:
#
#     ping 172.28.8.101

locals {
  subnet = "172.28.8.0/24"
}

network "hostonly" "dev" {
  cidr = local.subnet
}

machine "core" {
  count  = 3 # core-01, core-02, core-03
  image  = "dockerhost"
  cpus   = 1
  memory = "1GiB"

  network "dev" {
    address = cidrhost(local.subnet, 101 + index) # 172.28.8.101, .102 and .103
  }
}
