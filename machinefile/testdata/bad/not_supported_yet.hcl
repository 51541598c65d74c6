provider "virtualbox" {}

machine "core" {
  image = "dockerhost"

  docker {
    tls     = true
    context = "core"
    registry "mirror.example" {}
  }
  share "code" {
    type  = "nfs"
    host  = "~/code"
    guest = "/home/core/share"
  }
  provision "shell" {}
  dynamic "share" {
    for_each = []
    content {}
  }
  user_data = file("user-data")
}

machine "box" {
  provider = "virtualbox"
  image    = "dockerhost"
}
