#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# A DHCP client: without --config-net, dhcpcd in the namespace follows the host by what tapas announces.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"

# A namespace of its own with dhcpcd on tap7, and the program that fetches.
start_client() {
    ip netns add guest
    ip -n guest link set lo up
    # A folder of our own, so that this is the whole command line.
    local options=(--quiet --foreground --pid tapas.pid --dns-forward 169.254.1.1 -I tap7 --netns guest)
    mkdir "$log.folder"
    say "tapas ${options[*]}"
    (cd "$log.folder" && exec ip netns exec host "$tapas" "${options[@]}") &
    engine=$!
    until [ -s "$log.folder/tapas.pid" ]; do
        kill -0 "$engine" 2> /dev/null || fail "tapas has ended"
        sleep 0.02
    done
    say "guest: dhcpcd on tap7 (Integration/Lab/Programs/client.sh)"
    ip netns exec guest bash "$root/Integration/Lab/Programs/client.sh" dhcpcd tap7 > "$log.client" 2>&1 &
    processes+=($!)
    ip netns exec guest bash "$stories/fetch.sh" >> "$log" &
    processes+=($!)
}

begin "A DHCP client: Wi-Fi, no network, tethering"
host link set wlan0 up
host address add 192.0.2.10/24 dev wlan0
host route add default via 192.0.2.1 dev wlan0
resolver 192.0.2.53
start_client
await "fetches, seen as 192.0.2.10"
sleep 1

say "--- the Wi-Fi is another one's lease"
host address delete 192.0.2.10/24 dev wlan0
host address add 192.0.2.77/24 dev wlan0
host route add default via 192.0.2.1 dev wlan0
await "tap7 has 192.0.2.77/24"
sleep 1

say "--- a tunnel: no network"
host address delete 192.0.2.77/24 dev wlan0
await "tap7 has 169.254.2.1/16"

say "--- the telephone"
host link set usb0 up
host address add 192.168.44.7/24 dev usb0
host route add default via 192.168.44.1 dev usb0
resolver 192.168.44.1
await "tap7 has 192.168.44.7/24"
sleep 1
finish "one client and one program all the time, which learned of every change"
