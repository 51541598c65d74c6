provider "libvirt" {
  uri  = "qemu:///system"
  pool = "/var/lib/libvirt/images"
}
provider "libvirt" {}
provider "qemu" {}
provider "virtualbox" {}
provider "libvrt" {}
provider "vmware" {}
