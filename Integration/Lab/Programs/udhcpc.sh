#!/bin/sh
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# What udhcpc runs when it has something to configure (busybox's udhcpc(8)).
# shellcheck disable=SC2154 # udhcpc sets them
case $1 in
    deconfig)
        ip -4 address flush dev "$interface"
        ip link set "$interface" up
        ;;
    bound | renew)
        ip address replace "$ip/$mask" dev "$interface"
        for other in $(ip -4 -o address show dev "$interface" | awk '{ print $4 }'); do
            [ "$other" = "$ip/$mask" ] || ip address delete "$other" dev "$interface"
        done
        [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
        ip -4 route flush dev "$interface" proto static
        if [ -n "$staticroutes" ]; then
            # shellcheck disable=SC2086 # pairs of destination and router
            set -- $staticroutes
            while [ $# -ge 2 ]; do
                if [ "$2" = 0.0.0.0 ]; then
                    ip route replace "$1" dev "$interface" proto static
                else
                    ip route replace "$1" via "$2" dev "$interface" proto static
                fi
                shift 2
            done
        elif [ -n "$router" ]; then
            ip route replace default via "${router%% *}" dev "$interface" proto static
        fi
        : > /etc/resolv.conf
        for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
        ;;
esac
