provider "virtualbox" {}

machine "core" {
  image = "dockerhost"

  docker {
    tls     = true
    context = "core"
    registry "mirror.example" {}
  }
  provision "shell" {}
  dynamic "provision" {
    for_each = []
    content {}
  }
  user_data = file("user-data")
}

machine "box" {
  provider = "virtualbox"
  image    = "dockerhost"
}
