#!/bin/sh
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Builds the fuzzers and runs them: run.sh [--seconds N] [--seed N] [TARGET...]
# A target is a name under Sources without "Fuzz"; default: all, 60 seconds each. New inputs go to .build-fuzz/found,
# an input that fails to FailCases/TARGET; the exit status is that of the first failure.
set -eu
cd "$(dirname "$0")"

seconds=60
seed=1
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --help | -h) sed -n '5,7s/^# //p' "$0"; exit 0 ;;
    -*) echo "run.sh: unknown option $1" >&2; exit 2 ;;
    *) break ;;
    esac
done
if [ $# -eq 0 ]; then
    for folder in Sources/Fuzz*; do set -- "$@" "${folder#Sources/Fuzz}"; done
fi

# Address sanitizer beside the fuzzer's would lose the coverage without a word: the corpus is replayed under it instead,
# by the unit tests.
swift build --scratch-path .build-fuzz -c release --sanitize=fuzzer
programs=$(swift build --scratch-path .build-fuzz -c release --sanitize=fuzzer --show-bin-path)

# The backtracer hangs on a crash inside the fuzzer.
export SWIFT_BACKTRACE=enable=no
# The same input takes the same way each time.
export SWIFT_DETERMINISTIC_HASHING=1
for target in "$@"; do
    echo "== $target, $seconds s, seed $seed"
    found=.build-fuzz/found/$target
    mkdir -p "$found" "Corpus/$target" "FailCases/$target"
    dictionary=
    if [ -s "Dictionaries/$target.dict" ]; then dictionary=-dict=Dictionaries/$target.dict; fi
    "$programs/Fuzz$target" ${dictionary:+"$dictionary"} -seed="$seed" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="FailCases/$target/" "$found" "Corpus/$target"
done
