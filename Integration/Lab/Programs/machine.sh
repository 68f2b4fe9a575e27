#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# machine.sh FOLDER: makes what a virtual machine boots: FOLDER/kernel, a link to Debian's kernel, and FOLDER/initramfs,
# with busybox, the modules of a virtio network card, and an init that is a DHCP and SLAAC client.
#
# The guest tells on its console, in lines that begin with "machine:", each time anything of it changes:
#
#   machine: link MAC            its hardware address
#   machine: address PREFIX      each address of its card that may be used
#   machine: router ADDRESS      its default routers
#   machine: neighbour MAC       the hardware address of its IPv4 router
#   machine: resolver ADDRESS    what its resolv.conf has
#   machine: fetched TEXT        what the URL of the kernel's parameter "fetch=" gave
#   machine: end                 all of it has been told
#
# It answers on port 80 with the word "guest" and its IPv4 address, and ends when its console is told to.
set -euo pipefail

folder=$1
kernel=$(find /boot -name 'vmlinuz-*-cloud-amd64' | sort -V | tail -n 1)
[ -n "$kernel" ] || { echo "machine.sh: no kernel: install linux-image-cloud-amd64" >&2; exit 1; }
modules=/lib/modules/${kernel#/boot/vmlinuz-}/kernel
tree=$folder/tree

mkdir -p "$tree"/{bin,dev,etc,proc,sys,tmp,modules,www/cgi-bin}
cp "$(command -v busybox)" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
# In the order of loading.
for name in virtio/virtio_ring virtio/virtio virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev \
    virtio/virtio_pci net/net_failover net/virtio_net; do
    cp "$modules/drivers/$name.ko" "$tree/modules/"
done
cp "$modules/net/core/failover.ko" "$tree/modules/"

cat > "$tree/lease" << 'END'
#!/bin/sh
# What udhcpc calls.
case $1 in
deconfig) ip -4 address flush dev "$interface" ;;
bound | renew)
    [ -z "$mtu" ] || ip link set mtu "$mtu" dev "$interface"
    ip -4 address flush dev "$interface"
    ip address add "$ip/$mask" dev "$interface"
    if [ -n "$staticroutes" ]; then
        set -- $staticroutes
        while [ $# -ge 2 ]; do
            if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"
            else ip route replace "$1" via "$2" dev "$interface"; fi
            shift 2
        done
    else
        for address in $router; do ip route replace default via "$address" dev "$interface"; done
    fi
    : > /tmp/resolv.conf
    for address in $dns; do echo "nameserver $address"; done > /etc/resolv.conf
    ;;
esac
END

cat > "$tree/www/cgi-bin/who" << 'END'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\nguest %s\n' "$(ip -4 -o address show dev eth0 | awk '{print $4}')"
END

cat > "$tree/init" << 'END'
#!/bin/sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for name in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net; do
    insmod "/modules/$name.ko"
done
for word in $(cat /proc/cmdline); do case $word in fetch=*) fetch=${word#fetch=} ;; esac; done
echo 0 > /proc/sys/net/ipv6/conf/eth0/dad_transmits
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -s /lease -t 20 -T 1 -f > /dev/null 2>&1 &
httpd -h /www
tell() {
    echo "machine: link $(cat /sys/class/net/eth0/address)"
    ip -o address show dev eth0 | grep -v tentative | awk '{print "machine: address " $4}'
    ip route | awk '/^default/ {print "machine: router " $3}'
    ip -6 route | awk '/^default/ {print "machine: router " $3}'
    ip neigh show to "$(ip route | awk '/^default/ {print $3}')" | awk '/lladdr/ {print "machine: neighbour " $5}'
    awk '{print "machine: resolver " $2}' /etc/resolv.conf
    [ -z "$fetch" ] || ip route | grep -q ^default || return
    [ -z "$fetch" ] || echo "machine: fetched $(timeout 5 wget -q -O - "$fetch" 2>&1 | head -n 1)"
}
( last=
while :; do
    now=$(tell 2> /dev/null)
    [ "$now" = "$last" ] || printf '%s\nmachine: end\n' "$now"
    last=$now
    sleep 0.3
done ) &
read -r _
poweroff -f
END
chmod +x "$tree/lease" "$tree/init" "$tree/www/cgi-bin/who"

( cd "$tree" && find . | busybox cpio -o -H newc 2> /dev/null ) | gzip -1 > "$folder/initramfs"
ln -sf "$kernel" "$folder/kernel"
rm -rf "$tree"
