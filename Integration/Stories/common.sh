# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the stories share: a host whose network changes, an internet, a program that keeps fetching. Sourced.
#
#     fetch.sh ══ tapas in host ── wlan0 ── internet   192.0.2.1    a Wi-Fi
#                               ── usb0 ───            192.168.44.1 a telephone
#                               ── tun0 ───            10.8.0.1     a VPN
#                                                      203.0.113.1  the server, beyond all of them
#
# The internet drops what comes by another way than that of its source. TAPAS_BINARY names the program; without it, it
# is the release build.
set -euo pipefail
export LC_ALL=C

stories=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$stories/../.." && pwd)
if [ -z "${TAPAS_LAB_DIRECTORY:-}" ]; then
    # Namespaces of our own, in which nothing of the machine is touched.
    exec "$root/contrib/dev/lab" "$0" "$@"
fi
tapas=${TAPAS_BINARY:-$root/.build/release/tapas}
[ -x "$tapas" ] || { echo "there is no $tapas: build it, or name it in TAPAS_BINARY" >&2; exit 1; }
log=$(mktemp "$TAPAS_LAB_DIRECTORY/story.XXXXXX")
processes=()
seen=0

# say WORDS: a line of the story with its time.
say() {
    local time=$((${EPOCHREALTIME/./} - STORY_START))
    printf '%4d.%02d s  %s\n' $((time / 1000000)) $((time / 10000 % 100)) "$*" >> "$log"
}

fail() {
    say "the story failed: $*"
    sleep 0.3
    exit 1
}

# host COMMAND...: an ip(8) command in the host.
host() {
    say "host: ip $*"
    ip -n host "$@"
}

# resolver ADDRESS: another resolv.conf on the host, by renaming, as its programs do it.
resolver() {
    say "host: resolv.conf says nameserver $1"
    echo "nameserver $1" > /etc/resolv.conf.new
    mv /etc/resolv.conf.new /etc/resolv.conf
}

# await TEXT...: waits until the namespace has printed a line that begins with each TEXT, in any order, since the last
# wait.
await() {
    local end=$((SECONDS + 15)) text line last=$seen
    for text in "$@"; do
        until tail -n "+$((seen + 1))" "$log" | grep -qF "namespace: $text"; do
            [ "$SECONDS" -lt "$end" ] || fail "waited 15 s for: $text"
            kill -0 "$engine" 2> /dev/null || fail "tapas has ended"
            sleep 0.02
        done
        line=$(grep -nF "namespace: $text" "$log" | tail -1 | cut -d: -f1)
        [ "$line" -lt "$last" ] || last=$line
    done
    seen=$last
}

# begin NAME: builds everything and starts tapas with the program that fetches.
begin() {
    local name
    # The host's resolv.conf changes: its /etc is a copy.
    mkdir /run/etc
    for name in passwd group hosts nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d iproute2 alternatives; do
        [ ! -e "/etc/$name" ] || cp -r "/etc/$name" /run/etc/
    done
    : > /run/etc/resolv.conf
    mount --bind /run/etc /etc

    for name in host internet; do
        ip netns add "$name"
        ip -n "$name" link set lo up
    done
    for name in wlan0 usb0; do
        ip -n host link add "$name" type veth peer name "$name" netns internet
    done
    # A VPN's device has no ARP. With it, a connection that still has the other link's address could be the first to ask
    # for the server's hardware address; the internet answers no such question, and nobody else asks for a second or more.
    ip -n host link add tun0 address 02:00:00:00:00:08 type veth \
        peer name tun0 address 02:00:00:00:00:08 netns internet
    for name in host internet; do ip -n "$name" link set tun0 arp off; done
    ip netns exec internet sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter'
    ip -n internet -batch - << END
address add 203.0.113.1/32 dev lo
address add 192.0.2.1/24 dev wlan0
address add 192.0.2.53/24 dev wlan0
address add 192.168.44.1/24 dev usb0
address add 10.8.0.1/24 dev tun0
link set wlan0 up
link set usb0 up
link set tun0 up
END
    ip netns exec internet python3 "$stories/server.py" > "$log.server" &
    processes+=($!)
    ip netns exec internet python3 "$root/Integration/Lab/Programs/agent.py" "$log.socket" serve > "$log.names" &
    processes+=($!)
    until grep -qs ready "$log.server" && grep -qs ready "$log.names"; do sleep 0.02; done

    export STORY_START=${EPOCHREALTIME/./}
    echo "$1"
    tail -n +1 -F "$log" 2> /dev/null &
    processes+=($!)
}

# start: tapas, with a program that runs until the story ends.
start() {
    # The folder of the stories is the working folder, so that this is the whole command line.
    local options=(--quiet --config-net --dns-forward 169.254.1.1 -- bash fetch.sh)
    say "tapas ${options[*]}"
    (cd "$stories" && exec ip netns exec host "$tapas" "${options[@]}") >> "$log" &
    engine=$!
}

# finish TEXT: the moral, if the program that fetches is still the one of the beginning.
finish() {
    sleep 0.5
    kill -0 "$engine" || fail "tapas has ended"
    [ "$(grep -c 'namespace: process' "$log")" -eq 1 ] || fail "the program was started again"
    say "$*"
    sleep 0.3
}

end() {
    # By number, and without a word about it.
    kill "${engine:-$$}" "${processes[@]}" 2> /dev/null || true
    wait 2> /dev/null || true
}
engine=
trap '[ -z "$engine" ] || end' EXIT
