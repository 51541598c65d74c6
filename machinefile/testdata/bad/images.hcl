image "no_source" {}

image "url_without_anything" {
  source = "https://images.example/disk.qcow2"
}

image "plain_http" {
  source   = "http://images.example/disk.qcow2"
  checksum = "sha256:0123"
  family   = "fcos"
}

image "ftp" {
  source   = "ftp://images.example/disk.qcow2"
  checksum = "md5:900150983cd24fb0d6963f7d28e17f72"
  family   = "dockerhost"
  channel  = "stable"
}

image "bare_sum" {
  source   = "https://images.example/disk.qcow2"
  checksum = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
  family   = "dockerhost"
}

image "not_hex" {
  source   = "https://images.example/disk.qcow2"
  checksum = "sha256:x3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  family   = "dockerhost"
}

image "path" {
  source  = "./disk.qcow2"
  arch    = "x86_64"
  version = "1.2.3"
}

image "other_home" {
  source = "~root/disk.qcow2"
  family = "dockerhost"
}

image "channel" {
  source  = "flatcar"
  channel = "stabel"
  stream  = "stable"
}

image "stream" {
  source   = "fedora-coreos"
  stream   = "alpha"
  family   = "fedora-coreos"
  checksum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
}

image "bad name" {
  source = "flatcar"
}

machine "by_path" {
  image = "./disk.qcow2"
}

machine "in-quotes" {
  image = "channel"
}

machine "without-quotes" {
  image = dockerhost
}

machine "catalog" {
  image = image.flatcar
}

machine "unknown" {
  image = "ubuntu"
}
