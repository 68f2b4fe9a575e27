#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Boots offline, Wi-Fi comes: tapas starts at once and waits for nothing; what it wraps reaches the world as soon as the
# host does.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"

begin "Boots offline, Wi-Fi comes"
start
await "lost the server"
sleep 1.5
host link set wlan0 up
host address add 192.0.2.10/24 dev wlan0
host route add default via 192.0.2.1
await "fetches, seen as 192.0.2.10"
resolver 192.0.2.53
await "names are answered by 192.0.2.53"
finish "one process all the time, started before there was a network"
