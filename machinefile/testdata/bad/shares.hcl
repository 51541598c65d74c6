share {
  host = "."
}

share "1st" {
  guest = "/srv/first"
}

share "src" {
  host  = ""
  guest = "srv/src"
  ignre = ["*.o"]
}

share "src" {
  host  = "."
  guest = "/srv/src"
}

share "of" {
  type  = "rsync"
  host  = "~nobody/x"
  guest = "~/of"
}

share "one" {
  host   = "one"
  guest  = "/srv/one"
  server = "kernel"
}

share "two" {
  host          = "two"
  guest         = "/srv/one/two/"
  direction     = "both"
  events        = false
  ignore        = ["*.o"]
  mount_options = ["nolock,vers=4", "port=2049", "hard", "soft", "hard", "ro", "noatme", "lock", "x-systemd.automount", "a b"]
}

share "three" {
  type          = "sftp"
  host          = "three"
  guest         = "/home/core"
  server        = "system"
  mount_options = ["nolock"]
  events        = true
  readonly      = true
  direction     = "pull"
  ignore        = [1]
}

share "four" {
  host          = 4
  guest         = "/etc/docker"
  readonly      = "maybe"
  mount_options = { nolock = true }
}

share "five" {
  host          = "five"
  guest         = "/srv/../five"
  server        = "system"
  readonly      = true
  mount_options = ["rw", "vers=5", "sec=krb5", "rdma"]
}

share "six" {
  host  = "six ${index}"
  guest = "/srv/a\\b"
}

share "seven" {
  host  = "seven"
  guest = "/srv/${join("", [for i in range(80) : "-"])}"
}

machine "core" {
  count = 2
  image = "dockerhost"

  share "one" {
    host  = "src"
    guest = "/srv/code"
  }
  share "more" {
    host  = "more"
    guest = "/srv/code"
  }
  share "more" {
    host  = "again"
    guest = "/srv/again"
  }
  dynamic "share" {
    for_each = ["a", "b"]
    labels   = [share.value]
    content {
      host  = share.value
      guest = "/srv/both"
    }
  }
}
