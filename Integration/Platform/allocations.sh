#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Platform/allocations.sh [BINARY]
#
# Counts the calls of the allocator that tapas (the release build, or BINARY) makes while it forwards TCP and UDP in
# both directions, with the whole program running: there must be next to none for a frame. Needs what contrib/dev/lab
# needs, a C compiler and iperf3. Ends with 1 if there are more. (path-allocations.sh holds the data path alone to
# exactly none.)
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "${1:-.build/release/tapas}")
[ -x "$binary" ] || { echo "allocations.sh: no program at $binary" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cc -O2 -shared -fPIC -Wall -Werror -o "$folder/count.so" Integration/Platform/allocations.c
cp "$binary" "$folder/tapas"
cp Integration/Bench/load.py "$folder/load.py"
chmod 755 "$folder"/*
TAPAS_BENCH_LOAD=$folder/load.py contrib/dev/lab python3 Integration/Platform/allocations.py "$folder"
