#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Bench/told.sh [FILE]
#
# Measures how long a change of the host takes until a running client in a namespace that is told has it: nine changes
# each for the kernel's SLAAC, udhcpc, dhclient, dhcpcd and networkd. Prints the figures, and writes them to FILE
# (told.json) as JSON. Takes about a quarter of an hour. TAPAS_BINARY names the program; without it, the release build is
# made and measured.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
file=$(realpath "${1:-told.json}")

cd "$root"
if [ -z "${TAPAS_BINARY:-}" ]; then
    . contrib/dev/common.sh
    build_release
    export TAPAS_BINARY=$binary
fi
swift build --build-tests
# The report is a file of this user's; the tests run in namespaces of their own, as root there.
: > "$file"
export TAPAS_ROAMING_FULL=1 TAPAS_ROAMING_REPORT=$file
contrib/dev/lab swift test --skip-build --filter '^Scenarios\.Scenarios/ToldFigures' | grep -E '^figure:|✘|Test run'
grep -q '"name"' "$file"
