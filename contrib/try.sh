#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# contrib/try.sh [COMMAND [ARGUMENT]...]
#
# Builds tapas, installing what is missing for that, and runs COMMAND in a network namespace that tapas connects.
# Without COMMAND: a short tour of such a namespace. Nothing of the machine is changed but the packages installed.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/contrib/dev/common.sh"

case ${1:-} in
    -h | --help) sed -n '4,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

start=$PWD
cd "$top"
# Words for the person go to standard error: standard output is the command's.
{
    need_packages "${build_packages[@]}" iproute2 iputils-ping curl util-linux
    need_swift
    need_tun
    need_user_namespaces
    build_release
} >&2
cd "$start"

[ $# -eq 0 ] || exec "$binary" --config-net -- "$@"

# shellcheck disable=SC2016 # expanded in the namespace
exec "$binary" --config-net -- sh -c '
show() { printf "\n\$ %s\n" "$*"; "$@"; }
printf "This is a network namespace of its own, connected by tapas. Inside you are %s.\n" "$(id -un)"
show ip address
show ip route
show ip -6 route
for family in -4 -6; do
    gateway=$(ip $family route show default | sed -n "s/.* via \([^ ]*\) dev \([^ ]*\).*/\1 \2/p;s/^default via \([^ ]*\) .*/\1/p" | head -n 1)
    set -- $gateway
    case ${1:-} in
        "") continue ;;
        fe80:*) set -- "$1%$(ip $family route show default | sed -n "s/.* dev \([^ ]*\).*/\1/p" | head -n 1)" ;;
    esac
    show ping -c 3 -i 0.2 -W 2 "$1" || cat <<END
No answer. Ping from a namespace needs ping sockets on the host: its net.ipv4.ping_group_range must include your group
(sysctl net.ipv4.ping_group_range shows it). TCP and UDP do not need this.
END
done
printf "\nTry a command of your own: contrib/try.sh curl -sS http://example.org/\n"
'
