# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts share that measure with scenarios. Sourced, not run.

# take_figures FILE SUITES: runs the long form of the suites, prints their figures, and writes them to FILE as JSON.
take_figures() {
    local file
    file=$(realpath "$1")
    cd "$(dirname "${BASH_SOURCE[0]}")/../.." || return
    if [ -z "${TAPAS_BINARY:-}" ]; then
        . contrib/dev/common.sh
        build_release
        export TAPAS_BINARY=$binary
    fi
    swift build --build-tests
    # The report is a file of this user's; the tests run in namespaces of their own, as root there.
    : > "$file"
    export TAPAS_ROAMING_FULL=1 TAPAS_ROAMING_REPORT=$file
    contrib/dev/lab swift test --skip-build --filter "^Scenarios\.Scenarios/$2" | grep -E '^figure:|✘|Test run'
    grep -q '"name"' "$file"
}
