#!/bin/sh
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Holds the data path to its promise of no allocation for a packet: runs its tests of memory with each call of the
# allocator counted, optimised. Usage: path-allocations.sh [further arguments of swift build and test].
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cc -O2 -shared -fPIC -o "$folder/count.so" "$here/path-allocations.c"
cd "${TAPAS_PACKAGE:-$here/../..}"
set -- -c release -Xswiftc -enable-testing "$@"
swift build --build-tests "$@"
TAPAS_COUNT_ALLOCATIONS="$folder/count.so" LD_PRELOAD="$folder/count.so" \
    swift test --skip-build --filter AllocationTests "$@"
