#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# contrib/fuzz.sh [TARGET|all] [SECONDS]
#
# Builds the fuzzers (Integration/Fuzz) and runs one of them, or each, for so many seconds (default: all, 10 s each).
# What fails goes to Integration/Fuzz/FailCases/TARGET, and the exit status is that of the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. contrib/dev/common.sh

case ${1-} in
    -h | --help) sed -n '4,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
target=${1-all}
seconds=${2-10}
case $seconds in
    '' | *[!0-9]*) fail "'$seconds': give a number of seconds" ;;
esac
if [ "$target" = all ]; then
    targets=()
else
    [ -d "Integration/Fuzz/Sources/Fuzz$target" ] || fail "unknown target '$target': one of $(
        cd Integration/Fuzz/Sources && printf '%s ' Fuzz* | sed 's/Fuzz//g')"
    targets=("$target")
fi

need_packages "${build_packages[@]}"
need_swift
Integration/Fuzz/run.sh --seconds "$seconds" ${targets[@]+"${targets[@]}"}
