network "host-only" "kind" { cidr = "172.28.1.0/24" }
network "public" "kind-alias" {}
network "hostonyl" "kind-misspelt" { cidr = "172.28.1.0/24" }
network "nat" "kind-unknown" {}

network "hostonly" "no cidr" {}
network "hostonly" "größe" { cidr = "172.28.2.0/24" }
network "hostonly" "an-even-longer-name-than-the-one-that-a-file-of-its-own-would-take" { cidr = "172.28.3.0/24" }

network "hostonly" "dev" { cidr = "172.28.4.0/24" }
network "bridged" "dev" {}
network "hostonly" "Dev" { cidr = "172.28.5.0/24" }

network "hostonly" "no-length" { cidr = "172.28.8.1" }
network "hostonly" "no-subnet" { cidr = "172.28.8" }
network "hostonly" "host-bits" { cidr = "172.28.8.1/24" }
network "hostonly" "ipv6" { cidr = "fd00::/64" }
network "hostonly" "wide" { cidr = "10.0.0.0/7" }
network "hostonly" "narrow" { cidr = "172.28.9.0/30" }
network "hostonly" "number" { cidr = 24 }

network "hostonly" "docker0" { cidr = "172.17.8.0/24" }
network "hostonly" "docker0-within" { cidr = "172.16.0.0/12" }
network "hostonly" "nat" { cidr = "10.0.2.0/24" }
network "hostonly" "nat-within" { cidr = "10.0.0.0/16" }
network "hostonly" "loopback" { cidr = "127.1.0.0/16" }
network "hostonly" "link-local" { cidr = "169.254.8.0/24" }
network "hostonly" "multicast" { cidr = "239.1.0.0/16" }
network "hostonly" "reserved" { cidr = "250.0.0.0/8" }
network "hostonly" "none" { cidr = "0.1.0.0/16" }
network "hostonly" "public" { cidr = "8.8.8.0/24" }

network "hostonly" "a" { cidr = "192.168.32.0/20" }
network "hostonly" "b" { cidr = "192.168.40.0/24" }

network "hostonly" "mixed" {
  cidr      = "172.28.10.0/24"
  interface = "eth0"
}
network "bridged" "mixed-too" {
  cidr      = "172.28.11.0/24"
  interface = "eth0"
}
network "bridged" "no-interfaces" { interface = [] }
network "bridged" "empty" { interface = ["eth0", " "] }
network "bridged" "null-within" { interface = ["eth0", null] }
network "bridged" "set" { interface = toset(["eth0", "eth1"]) }
network "bridged" "misspelt" { interfaces = ["eth0"] }
network "dev" { cidr = "172.28.12.0/24" }
network "hostonly" { cidr = "172.28.12.0/24" }
