#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# client.sh CLIENT INTERFACE
#
# Runs a configuration client in a namespace, in the foreground, with an /etc, a /run and a /var/lib of its own so that
# nothing of the machine changes: slaac (the kernel's own), udhcpc, dhclient, stale (dhclient with an old lease),
# dhclient6, dhcpcd, networkd.
set -euo pipefail
client=$1 interface=$2
self=$(realpath "$0")

if [ "${3:-}" != inside ]; then
    exec unshare --mount --propagation private -- "$self" "$client" "$interface" inside
fi

etc=$(mktemp -d)
chmod 755 "$etc"
for name in passwd group hosts nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d services protocols alternatives; do
    [ ! -e "/etc/$name" ] || cp -r "/etc/$name" "$etc/"
done
: > "$etc/resolv.conf"
echo 0123456789abcdef0123456789abcdef > "$etc/machine-id"
mkdir "$etc/dhcp" "$etc/systemd"
mount --bind "$etc" /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib

case $client in
    slaac)
        ip link set "$interface" up
        echo ready
        exec sleep infinity
        ;;
    udhcpc)
        ip link set "$interface" up
        echo ready
        exec udhcpc -f -t 3 -T 1 -A 1 -i "$interface" -s "$(dirname "$self")/udhcpc.sh"
        ;;
    dhclient)
        mkdir -p /var/lib/dhcp
        echo ready
        exec dhclient -d -v "$interface"
        ;;
    stale)
        # dhclient with a lease of an address that nobody gives here: it asks for that one first.
        mkdir -p /var/lib/dhcp
        cat > /var/lib/dhcp/dhclient.leases <<END
lease {
  interface "$interface";
  fixed-address 192.0.2.99;
  option subnet-mask 255.255.255.0;
  option routers 192.0.2.1;
  option dhcp-lease-time 86400;
  option dhcp-server-identifier 192.0.2.1;
  renew 2 2037/01/01 00:00:00;
  rebind 2 2037/01/01 00:00:00;
  expire 2 2037/01/01 00:00:00;
}
END
        echo ready
        exec dhclient -d -v "$interface"
        ;;
    dhclient6)
        mkdir -p /var/lib/dhcp
        ip link set "$interface" up
        echo ready
        exec dhclient -6 -d -v "$interface"
        ;;
    dhcpcd)
        mkdir -p /var/lib/dhcpcd /run/dhcpcd
        cat > /etc/dhcpcd.conf <<END
hostname
duid
persistent
option domain_name_servers, domain_name, domain_search, classless_static_routes, interface_mtu
require dhcp_server_identifier
noarp
END
        echo ready
        exec dhcpcd --nobackground --debug --nohook resolv.conf "$interface"
        ;;
    networkd)
        mkdir -p /etc/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
        cat > /etc/systemd/network/10-told.network <<END
[Match]
Name=$interface
[Network]
DHCP=yes
IPv6AcceptRA=yes
END
        chown -R systemd-network /run/systemd/netif
        # Where /sys is read-only there is no udev to wait for.
        mount -o remount,bind,ro /sys 2> /dev/null || mount -t sysfs -o ro sysfs /sys
        echo ready
        SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec /lib/systemd/systemd-networkd
        ;;
    *)
        echo "unknown client $client" >&2
        exit 2
        ;;
esac
