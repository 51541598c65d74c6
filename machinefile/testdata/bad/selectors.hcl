image "empty_channel" {
  source  = "flatcar"
  channel = ""
  version = ""
}

image "empty_stream" {
  source = "fedora-coreos"
  stream = ""
}

image "path_as_version" {
  source  = "flatcar"
  version = "../4593.2.5"
}

image "spaces" {
  source  = "flatcar"
  version = "4593.2.5 "
}

image "unset" {
  source  = "flatcar"
  channel = null
  version = null
}

machine "core" {
  image = image.unset
}
