#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Platform/real-root.sh PROGRAM
#
# What the program tells real root: that it goes on as nobody, once, unless -q or --runas is given. The integration tests
# cannot see that: their root is root of a user namespace. Runs in network and mount namespaces of its own. For root.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/contrib/dev/common.sh"
need_root
program=$(realpath "${1:-}")
[ -x "$program" ] || fail "name the program"
if [ -z "${TAPAS_SEPARATE:-}" ]; then
    TAPAS_SEPARATE=1 exec unshare --net --mount --propagation private --fork -- "$0" "$program"
fi
ip link set lo up
notice="started as root: going on as nobody"

# told COUNT OPTION...: the command runs as root of its namespace, and the notice is printed COUNT times.
told() {
    local count=$1 words found
    shift
    words=$("$program" --config-net "$@" -- id -u 2>&1) || fail "${*:-no option}: $words"
    grep -qx 0 <<< "$words" || fail "${*:-no option}: the command is not root of its namespace: $words"
    found=$(grep -c "$notice" <<< "$words") || true
    [ "$found" -eq "$count" ] || fail "${*:-no option}: the notice is printed $found times, not $count: $words"
}

told 1
told 0 --quiet
told 0 --runas nobody
echo "real root is told once that the program goes on as nobody: ok"
