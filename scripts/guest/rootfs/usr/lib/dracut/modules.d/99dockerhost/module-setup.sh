#!/bin/bash

check() {
    return 0
}

depends() {
    echo ignition
}

install() {
    inst_script "$moddir/setfiles" /usr/sbin/setfiles
    inst_script "$moddir/emergency" /usr/lib/dockerhost/emergency
    inst_simple "$moddir/emergency.service" /etc/systemd/system/emergency.service
    inst_multiple cat sync
}
