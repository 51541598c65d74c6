# Edit here, run there. The folder "code" beside this file is mounted in the
# guest by NFS, without root, without /etc/exports and without a password:
#
#     hostctl up
#     hostctl ssh -c 'docker run --rm -v /home/core/code:/code IMAGE ls /code'
#
# An image of a tar of files is made without a registry: docker import FILE.tar NAME.
#
# Programs in the guest that watch files hear of what is changed here. The folder
# "assets" is copied instead, and the copy follows.

machine "core" {
  image  = "dockerhost"
  memory = "1GiB"

  share "code" {
    host   = "code"
    guest  = "/home/core/code"
    create = true
  }

  share "assets" {
    type   = "sftp"
    host   = "assets"
    guest  = "/home/core/assets"
    create = true
    ignore = ["*.tmp"]
  }
}
