machine "core" {
  count = 2
  image = "dockerhost"

  forward "many" {
    guest = "8000-8010"
    host  = "8000-8010"
  }
}

machine "other" {
  image = "dockerhost"

  forward "inside" {
    guest = 80
    host  = 8005
  }
  forward "guest-only" {
    guest = "9000-9010"
    host  = 9000
  }
  forward "host-only" {
    guest = 9100
    host  = "9100-9110"
  }
  forward "lengths" {
    guest = "9200-9210"
    host  = "9200-9209"
  }
  forward "at-the-end" {
    guest = "9200-9210"
    host  = 65530
  }
  forward "reversed" {
    guest = "9310-9300"
    host  = "9310-9300"
  }
  forward "large" {
    guest = "10000-11000"
    host  = "10000-11000"
  }
  forward "high" {
    guest = "65530-65540"
    host  = "0-10"
  }
  forward "written-otherwise" {
    guest = "9400:9410"
    host  = "9400 - 9410"
  }
  forward "subtraction" {
    guest = 9500 - 9510
    host  = 9500 - 9510
  }
  forward "half" {
    guest = "9600-"
    host  = "http"
  }
  forward "list" {
    guest = [9700, 9701]
    host  = [9700, 9701]
  }
}

machine "reserved" {
  image = "dockerhost"

  forward "ssh" {
    guest = "22-23"
    host  = "2222-2223"
  }
  forward "docker" {
    guest = "2375-2376"
    host  = "2475-2476"
  }
  forward "open" {
    guest   = "2370-2380"
    host    = "2370-2380"
    host_ip = "0.0.0.0"
  }
}

machine "names" {
  image = "dockerhost"

  forward "web-8001" {
    guest = 80
    host  = 8080
  }
  forward "web" {
    guest = "8000-8001"
    host  = "7000-7001"
  }
  forward "web-8000" {
    guest = 443
    host  = 8443
  }
  forward "self" {
    guest = "1000-1001"
    host  = "7000-7001"
  }
}
