#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Bench/roaming.sh [FILE]
#
# Measures how tapas follows the host: 50 gains of a network, 20,000 route events in a burst, a minute of idleness, 500
# random transitions. Prints the figures, and writes them to FILE (roaming.json) as JSON. Takes about ten minutes.
# TAPAS_BINARY names the program; without it, the release build is made and measured.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/Integration/Bench/figures.sh"
take_figures "${1:-roaming.json}" 'Roaming(Figures|Journey)'
