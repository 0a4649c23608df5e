#!/bin/busybox sh
# Init of the appliance's initrd: load five drivers, find the disks by serial, unpack the node's configuration,
# give the network card its address, and hand over to systemd.  It replaces udev, initramfs-tools and
# networkd on the way to the root file system, which halves the boot under emulation.
#
# Kernel command line: spanreel.address=ADDRESS/PREFIX
export PATH=/bin
fail() {
    echo "spanreel-initrd: $*" >/dev/console
    # Ending makes the kernel panic and halt; the console recording then ends with this line.
    sleep 2
    exit 1
}
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys

while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

# Disks answer within milliseconds; the bound is for a machine that has none.
tries=0
while [ ! -b /dev/vda ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || fail "no disk appeared within 10 s"
    usleep 100000
done

by_serial() {
    for disk in /sys/block/vd*; do
        [ "$(cat "$disk/serial")" = "$1" ] && echo "/dev/${disk##*/}" && return 0
    done
    return 1
}
root=$(by_serial root) || fail "no disk with the serial root"
mount -t ext4 -o noatime "$root" /root || fail "cannot mount $root"

# Configuration and secrets: a tar archive on a disk of its own, owners and modes included.
if config=$(by_serial config); then
    tar -xpf "$config" -C /root || fail "cannot unpack the configuration on $config"
fi
if product=$(by_serial product); then
    mount -t ext4 -o ro,noload "$product" /root/opt/spanreel || fail "cannot mount the product on $product"
fi

for word in $(cat /proc/cmdline); do
    case $word in
        spanreel.address=*) address=${word#*=} ;;
    esac
done
ip link set lo up
if [ -n "$address" ]; then
    ip address add "$address" dev eth0 || fail "no network card eth0"
    ip link set eth0 up
fi

umount /sys /proc
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
