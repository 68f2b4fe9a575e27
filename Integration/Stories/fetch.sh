#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# The long-running program of the stories: fetches from the server and asks for a name, again and again, and tells when
# that begins to work, when it ends, and when the addresses change.
set -uo pipefail

tell() {
    local time=$((${EPOCHREALTIME/./} - STORY_START))
    printf '%4d.%02d s      namespace: %s\n' $((time / 1000000)) $((time / 10000 % 100)) "$*"
}

tell "process $$ begins to fetch"
addresses='' fetched='' answered=''
while :; do
    read -r name _ address _ < <(ip -br -4 address show scope global up -deprecated)
    now="$name has $address"
    [ "$now" = "$addresses" ] || tell "$now"
    addresses=$now

    now=$(curl --silent --max-time 1 http://203.0.113.1:8000/) || now=lost
    if [ "$now" != "$fetched" ]; then
        case $now in
            lost) tell "lost the server" ;;
            *) if [ "${fetched:-lost}" = lost ]; then
                tell "fetches, seen as $now"
            else
                tell "fetches on, seen as $now"
            fi ;;
        esac
    fi
    fetched=$now

    now=$(dig +short +tries=1 +time=1 -t TXT web.example @169.254.1.1 | grep '^"' | tr -d '"') || now=lost
    if [ "$now" != "$answered" ]; then
        if [ "$now" = lost ]; then tell "lost the names"; else tell "names are answered by $now"; fi
    fi
    answered=$now
    sleep 0.05
done
