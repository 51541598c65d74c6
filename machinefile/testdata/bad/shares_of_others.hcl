# What people write who come from elsewhere.
share "vagrant" {
  type        = "rsync"
  source      = "."
  destination = "/srv/vagrant"
  exclude     = [".git/"]
  owner       = "core"
}

share "lima" {
  location   = "~/code"
  mountPoint = "/srv/lima"
  writable   = true
  type       = "reverse-sshfs"
}

share "compose" {
  type      = "bind"
  source    = "./src"
  target    = "/srv/compose"
  read_only = true
}

share "windows" {
  type      = "smb"
  host      = "."
  guest     = "/srv/windows"
  readOnly  = true
  direction = "pull"
}

share "plan9" {
  type    = "9p"
  path    = "."
  guest   = "/srv/plan9"
  options = ["hard"]
}

machine "core" {
  count = 2
  image = "dockerhost"

  share "virtiofs" {
    type   = "virtiofs"
    host   = "."
    target = "/srv/virtiofs"
  }
  dynamic "share" {
    for_each = ["a", "b"]
    labels   = [share.value]
    content {
      src   = share.value
      guest = "/srv/${share.value}"
      ro    = true
    }
  }
}
