machine "Core_1" {
  image = "dockerhost"
}

machine "a-name-that-is-just-about-as-long-as-a-host-name-may-ever-become" {
  count = 12
  image = "dockerhost"
}

machine "web" {
  for_each = toset(["a", "B c", "d"])
  image    = "dockerhost"

  forward "has blank" {
    guest = 80
    host  = 8080 + index
  }
}
