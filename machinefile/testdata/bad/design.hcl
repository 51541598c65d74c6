variable "docker_port" {
  type    = number
  default = 2375
}

image "coreos" {
  source  = "flatcar"            # catalog name, path, or https URL with checksum
  channel = "stable"
}

network "hostonly" "dev" { cidr = "172.28.8.0/24" }
network "bridged" "lan"  { interface = ["en1: Wi-Fi (AirPort)", "eth0"] }

machine "core" {
  count    = 2                   # core-01, core-02; without count the label is the name
  provider = "libvirt"           # default: qemu
  image    = image.coreos        # or a catalog name: "dockerhost"
  cpus     = 2
  memory   = "1GiB"
  disk     = "20GiB"

  network "dev" { address = cidrhost("172.28.8.0/24", 101 + index) }
  network "lan" {}

  docker {                       # on by default; tls, context, registry options live here too
    port = 2375
  }
  forward "docker" {
    guest        = 2375
    host         = var.docker_port + index
    host_ip      = "127.0.0.1"
    protocol     = "tcp"
    auto_correct = true
  }
  share "code" {
    type          = "nfs"        # nfs | sftp
    host          = "~/code/docker-host-coreos-share"
    guest         = "/home/core/share"
    mount_options = ["nolock", "vers=3"]
  }
  user_data = file("user-data")  # #cloud-config, Butane, Ignition or a script
}
