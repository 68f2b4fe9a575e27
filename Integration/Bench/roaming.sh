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
file=$(realpath "${1:-roaming.json}")

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
contrib/dev/lab swift test --skip-build --filter '^Scenarios\.Scenarios/Roaming(Figures|Journey)' | grep -E '^figure:|✘|Test run'
grep -q '"name"' "$file"
