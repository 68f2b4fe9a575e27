#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# DHCP hands out another address in the same subnet: the kernel drops the old one's default route without a word.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"

begin "DHCP hands out another address in the same subnet"
host link set wlan0 up
host address add 192.0.2.10/24 dev wlan0
host route add default via 192.0.2.1 dev wlan0
resolver 192.0.2.53
start
await "names are answered by 192.0.2.53"
sleep 1

say "--- the lease is another one"
host address delete 192.0.2.10/24 dev wlan0
await "lost the server"
host address add 192.0.2.77/24 dev wlan0
host route add default via 192.0.2.1 dev wlan0
await "fetches, seen as 192.0.2.77"
sleep 1
finish "one process all the time, on either lease"
