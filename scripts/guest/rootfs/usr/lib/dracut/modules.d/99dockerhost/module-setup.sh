#!/bin/bash
# shellcheck disable=SC2030,SC2031,SC2154 # the variables are dracut's

check() {
    return 0
}

depends() {
    echo systemd-initrd udev-rules
}

installkernel() {
    # Those of the other modules are for machines that this guest is not in,
    # and the boot loader reads the initramfs slowly.
    rm -rf "$initdir/lib/modules/$kernel/kernel"
    hostonly='' instmods ata_generic ata_piix autofs4 qemu_fw_cfg sd_mod \
        virtio_blk virtio_net virtio_pci virtio_rng virtio_scsi
}

# Ignition as its own module installs it, but without what that depends on:
# dracut's network scripts and curl. Ignition has its own client, and
# ignition-neednet.service brings up systemd-networkd when a config asks for it.
install_ignition() (
    moddir=$dracutbasedir/modules.d/30ignition
    # shellcheck source=/dev/null
    . "$moddir/module-setup.sh"
    install
)

# Runs last, so that it can take away what the others brought. systemd alone
# finds and mounts the root; dracut's hooks would look for it a second time, in
# shell, which takes seconds under emulation.
install() {
    local units=$initdir/$systemdsystemunitdir unit

    rm -rf "$units"/{basic,initrd,multi-user,sockets,sysinit,timers}.target.wants
    rm -rf "$initdir"/etc/systemd/system/*.wants
    rm -f "$initdir/$systemdutildir"/system-generators/systemd-{debug,gpt-auto}-generator
    for unit in systemd-journald systemd-udevd systemd-udev-trigger; do
        $SYSTEMCTL -q --root "$initdir" add-wants sysinit.target "$unit.service"
    done
    for unit in systemd-journald systemd-journald-dev-log systemd-udevd-control systemd-udevd-kernel; do
        $SYSTEMCTL -q --root "$initdir" add-wants sockets.target "$unit.socket"
    done
    inst_simple "$moddir/udev-trigger.conf" /etc/systemd/system/systemd-udev-trigger.service.d/50-dockerhost.conf
    inst_simple "$moddir/initrd-parse-etc.service" /etc/systemd/system/initrd-parse-etc.service
    $SYSTEMCTL -q --root "$initdir" set-default initrd.target

    # What Ignition needs here and Debian's module does not bring.
    install_ignition
    inst_script "$moddir/setfiles" /usr/sbin/setfiles
    inst_script "$moddir/neednet" /usr/lib/dockerhost/neednet
    inst_simple "$moddir/ignition-neednet.service" /etc/systemd/system/ignition-neednet.service
    $SYSTEMCTL -q --root "$initdir" add-wants ignition-complete.target ignition-neednet.service
    inst_simple "$systemdsystemunitdir/systemd-networkd.service"
    inst_simple "$systemdnetwork/zz-default.network"
    inst_simple /etc/ssl/certs/ca-certificates.crt
    inst_multiple sed tr "$systemdutildir/systemd-networkd" "$systemdutildir/systemd-networkd-wait-online"

    inst_script "$moddir/emergency" /usr/lib/dockerhost/emergency
    inst_simple "$moddir/emergency.service" /etc/systemd/system/emergency.service
    inst_multiple cat sync
}
