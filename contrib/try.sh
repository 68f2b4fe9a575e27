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
    need_packages "${build_packages[@]}" iproute2 curl util-linux
    need_swift
    need_tun
    need_user_namespaces
    build_release
} >&2
cd "$start"

[ $# -eq 0 ] || exec "$binary" --config-net -- "$@"

# What the tour asks for beyond the host: the host is asked first, so that the tour can tell whose fault it is.
site=http://example.org/
beyond=none
if [ -z "$(ip -4 route show default; ip -6 route show default)" ]; then
    beyond=offline
elif curl -sS -o /dev/null --max-time 5 "$site" 2> /dev/null; then
    beyond=yes
fi
export site beyond

# shellcheck disable=SC2016 # expanded in the namespace
exec "$binary" --config-net -- sh -c '
show() { printf "\n\$ %s\n" "$*"; "$@"; }
printf "This is a network namespace of its own, connected by tapas. Inside you are %s.\n" "$(id -un)"
show ip -brief address
show ip route
show ip -6 route
case $beyond in
    yes)
        printf "\nA fetch from beyond the host:\n"
        show curl -sS -o /dev/null -w "%{http_code} from %{remote_ip}, as seen from %{local_ip}\n" --max-time 10 "$site" || {
            printf "tapas could not fetch what the host can: please report this with the output of tapas -d.\n"
            exit 1
        } ;;
    offline)
        printf "\nThis host has no default route, so there is nothing beyond to fetch from. The namespace has local\n"
        printf "addresses until the host gets a network; nothing has to be restarted then.\n" ;;
    none)
        printf "\nThis host itself gets no answer from %s (no way out, or a proxy is needed),\n" "$site"
        printf "so the tour cannot show a fetch from beyond.\n" ;;
esac
printf "\nTry a command of your own: contrib/try.sh curl -sS http://example.org/\n"
'
