#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# contrib/test.sh [unit] [integration]
#
# Installs what the tests need, builds tapas as it is delivered, and runs the unit tests and the integration tests;
# with words, only those. The integration tests run in namespaces of their own (contrib/dev/lab) and need no root. A
# test that is skipped without being listed in Integration/skips.txt is a failure. See docs/testing.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. contrib/dev/common.sh

stages=("$@")
[ $# -gt 0 ] || stages=(unit integration)
for stage in "${stages[@]}"; do
    case $stage in
        unit | integration) ;;
        -h | --help) sed -n '4,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown stage '$stage': unit or integration" ;;
    esac
done

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# Runs a test command; its words go to the terminal and are then searched for skipped tests.
run_tests() {
    local status=0 skipped
    "$@" 2>&1 | tee "$output" || status=$?
    if [ "$status" -ne 0 ]; then
        say "what failed, again"
        grep -A 12 -E '^[^ ]+ (Test|Suite) .* recorded an issue' "$output" |
            grep -v -E '( started| passed after .*)\.$' | cut -c 1-400 | head -n 150 || true
        grep -E 'Test run with [0-9]+ test' "$output" || true
        fail "tests failed (status $status): $*"
    fi
    grep -q 'Test run with [1-9][0-9]* test' "$output" || fail "no test was run: $*"
    # Lines of the runner that say "skipped", less those that contain a line of the list.
    skipped=$(grep -E '^[^ ]+ (Test|Suite) .* skipped(\.|:)' "$output" |
        grep -v -F -f <(sed -n 's/ -- .*//; /^[^#]/p' Integration/skips.txt) || true)
    [ -z "$skipped" ] || fail "skipped, and not listed in Integration/skips.txt:
$skipped"
}

need_packages "${build_packages[@]}" bash iproute2 util-linux procps python3 iputils-ping \
    traceroute curl socat iperf3 bind9-dnsutils tcpdump nftables passt gcc libc6-dev
need_swift
need_tun
need_user_namespaces
build_release

takes_ports_back='^ForwardingTests\.(PortForwarderTests|ForwardingTableTests)/'

say "building the tests"
swift build --build-tests

case " ${stages[*]} " in
    *" unit "*)
        say "unit tests"
        # Suites that start programs hold every socket of the process between fork and exec; a port that was just
        # closed is then in use still. Those that take ports back at once run by themselves.
        run_tests swift test --skip-build --skip '^Scenarios\.' --skip "$takes_ports_back"
        run_tests swift test --skip-build --filter "$takes_ports_back"
        ;;
esac

case " ${stages[*]} " in
    *" integration "*)
        say "allocations on the data path"
        Integration/Platform/allocations.sh "$binary"
        say "integration tests, in namespaces of their own"
        export TAPAS_BINARY=$binary
        run_tests contrib/dev/lab swift test --skip-build --filter '^Scenarios\.'
        ;;
esac
