#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# contrib/test.sh [unit] [integration] [ordinary] [packages] [engines]
#
# Installs what the tests need, builds tapas as it is delivered, and runs the unit tests and the integration tests;
# with words, only those. The integration tests run in namespaces of their own (contrib/dev/lab) and need no root.
# ordinary: for root, a part of it once more as a user with no privilege (contrib/dev/as-ordinary-user). packages: for
# root, the Debian and the RPM package made, installed, run and removed (Integration/Platform/packages.sh). engines: for
# root, what docs/containers.md and docs/boot.md tell people to do, word for word (Integration/Platform/engines.sh). A test
# that is skipped without being listed in Integration/skips.txt is a failure. See docs/testing.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. contrib/dev/common.sh

stages=("$@")
[ $# -gt 0 ] || stages=(unit integration)
for stage in "${stages[@]}"; do
    case $stage in
        unit | integration | ordinary | packages | engines) ;;
        -h | --help) sed -n '4,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown stage '$stage': unit, integration, ordinary, packages or engines" ;;
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
    traceroute crun runc busybox-static curl socat iperf3 bind9-dnsutils tcpdump nftables passt gcc libc6-dev \
    isc-dhcp-client udhcpc dhcpcd-base ndisc6 systemd qemu-system-x86 linux-image-cloud-amd64
need_swift
need_tun
need_user_namespaces
build_release

if printf '%s\n' "${stages[@]}" | grep -q -v -x -e packages -e engines; then
    say "building the tests"
    swift build --build-tests
fi

case " ${stages[*]} " in
    *" unit "*)
        say "unit tests"
        run_tests swift test --skip-build --skip '^Scenarios\.'
        ;;
esac

case " ${stages[*]} " in
    *" integration "*)
        say "allocations on the data path"
        Integration/Platform/allocations.sh "$binary"
        if [ "$(id -u)" -eq 0 ]; then
            say "what real root is told"
            Integration/Platform/real-root.sh "$binary"
        fi
        say "integration tests, in namespaces of their own"
        export TAPAS_BINARY=$binary
        run_tests contrib/dev/lab swift test --skip-build --filter '^Scenarios\.'
        ;;
esac

case " ${stages[*]} " in
    *" ordinary "*)
        [ "$(id -u)" -eq 0 ] || fail "stage 'ordinary' is for root: the other stages are the ordinary user's already"
        # The one reason for which this stage may be left out (docs/testing.md).
        if ! contrib/dev/as-ordinary-user test -r Package.swift -a -x "$binary"; then
            say "left out, as an ordinary user: other users cannot read $PWD; clone it to where they can"
            stages=("${stages[@]/ordinary/}")
        fi
        ;;
esac

case " ${stages[*]} " in
    *" ordinary "*)
        # SwiftPM would write to the build folder, which is root's; the tests are a program that runs without it.
        tests=$(find "$(swift build --show-bin-path)" -maxdepth 1 -name '*PackageTests.xctest')
        run=("$tests" --testing-library swift-testing)
        say "allocations on the data path, as an ordinary user"
        contrib/dev/as-ordinary-user Integration/Platform/allocations.sh "$binary"
        say "integration tests, as an ordinary user: a part of them, so that all of it stays below half an hour"
        export TAPAS_BINARY=$binary
        run_tests contrib/dev/as-ordinary-user contrib/dev/lab "${run[@]}" --filter '^Scenarios\.Scenarios/(Spawn|Copying|Transfers)'
        ;;
esac

case " ${stages[*]} " in
    *" packages "*)
        [ "$(id -u)" -eq 0 ] || fail "stage 'packages' is for root: it makes a small Debian root"
        Integration/Platform/packages.sh "$(dirname "$binary")"
        ;;
esac

case " ${stages[*]} " in
    *" engines "*)
        [ "$(id -u)" -eq 0 ] || fail "stage 'engines' is for root: it boots a machine of its own"
        Integration/Platform/engines.sh "$(dirname "$binary")"
        ;;
esac
say "done"
