#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Bench/service-clients.sh [FILE]
#
# Measures how long it takes until a running client of the services has a change of the host: nine changes each for the
# kernel's SLAAC, udhcpc, dhclient, dhcpcd and networkd. Prints the figures, and writes them to FILE
# (service-clients.json) as JSON. Takes about a quarter of an hour. TAPAS_BINARY names the program; without it, the
# release build is made and measured.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/Integration/Bench/figures.sh"
take_figures "${1:-service-clients.json}" 'ServiceClientFigures'
