machine "core" {
  count = 2
  image = "dockerhost"

  dynamic "docker" {
    for_each = [1]
    content {}
  }
  dynamic "forward" {
    for_each = { web = 80, tls = 443 }
    labels   = [forward.key]
    content {
      guest = forward.value
      host  = "x${forward.value}"
      hots  = 1
    }
  }
}
