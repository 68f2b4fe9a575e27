#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Train ride: Wi-Fi, a tunnel, tethering with another subnet, a VPN up and down.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"

begin "Train ride: Wi-Fi, a tunnel, tethering, a VPN up and down"
host link set wlan0 up
host address add 192.0.2.10/24 dev wlan0
host route add default via 192.0.2.1 dev wlan0 metric 600
resolver 192.0.2.53
start
await "names are answered by 192.0.2.53"

say "--- the train enters a tunnel"
ip -n internet link set wlan0 down
sleep 1
host address delete 192.0.2.10/24 dev wlan0
await "lost the server" "wlan0 has 169.254.2.1/16"
sleep 1

say "--- a telephone is plugged in"
host link set usb0 up
host address add 192.168.44.7/24 dev usb0
host route add default via 192.168.44.1 dev usb0 metric 700
await "fetches, seen as 192.168.44.7"
resolver 192.168.44.1
await "names are answered by 192.168.44.1"
sleep 1

say "--- the VPN goes up, as wg-quick does it"
host link set tun0 up
host address add 10.8.0.2/24 dev tun0
host route add default dev tun0 table 51820
host rule add not fwmark 51820 table 51820
host rule add table main suppress_prefixlength 0
resolver 10.8.0.1
await "fetches on, seen as 10.8.0.2" "names are answered by 10.8.0.1"
sleep 1

say "--- and down"
host rule delete table main suppress_prefixlength 0
host rule delete not fwmark 51820 table 51820
host address delete 10.8.0.2/24 dev tun0
host link set tun0 down
resolver 192.168.44.1
await "fetches on, seen as 192.168.44.7" "names are answered by 192.168.44.1"
finish "one process all the time, from the Wi-Fi to the end of the VPN"
