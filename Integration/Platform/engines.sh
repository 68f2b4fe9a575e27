#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Platform/engines.sh FOLDER [PAGE...]
#
# Runs what the pages containers.md and boot.md tell people to do, word for word from the pages, on a machine of its own
# (machine.sh) where contrib/install.sh has installed the programs in FOLDER. For root.
#
# A comment before a fenced block in a page says what it is:
#
#     <!-- run -->          commands of root, in a folder of their own; "run as user": of an ordinary user. The machine
#     <!-- run offline -->  has a network, but for these, which bring it: the cable is there, without addresses
#     <!-- file PATH -->    a file of the machine
#     <!-- prints -->       lines that the commands before it print, among others, in this order; "..." is anything
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/contrib/dev/common.sh"
need_built_programs "${1:-}"
need_root
shift
pages=("$@")
[ $# -gt 0 ] || pages=("$top/docs/boot.md" "$top/docs/containers.md")
if [ -z "${TAPAS_MACHINE:-}" ]; then
    need_packages binutils python3 iproute2 util-linux curl bind9-dnsutils busybox-static systemd dbus uidmap crun runc podman \
        buildah bubblewrap procps
    TAPAS_MACHINE=1 exec unshare --mount --propagation private "$0" "$TAPAS_BUILD" "${pages[@]}"
fi
. "$top/Integration/Platform/machine.sh"

work=$(mktemp -d)
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    [ "$?" -eq 0 ] || [ -z "${machine:-}" ] || in_machine journalctl --no-pager --lines 40 >&2 || true
    end_machine
    umount -l "$work/root" "$work/changes" 2> /dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
DESTDIR=$work/tree "$top/contrib/install.sh" --prefix /usr/local --as-pasta
say "a machine with systemd"
begin_machine "$work"
plug_in "$work"

# run_block PAGE KIND FILE [EXPECTED]: runs a block, and compares what it prints.
is_connected=false
run_block() {
    local page=$1 kind=$2 block=$3 expected=${4:-} runner=in_machine status=0
    if [ "$kind" != "run offline" ] && ! $is_connected; then
        connect
    fi
    # A block that begins offline brings the network by itself.
    is_connected=true
    [ "$kind" != "run as user" ] || runner=as_user
    # The blocks of a page share the folder; the terminal is nobody's.
    # shellcheck disable=SC2016 # the inner shell expands it
    "$runner" bash -c 'mkdir -p "/tmp/work-$UID" && cd "/tmp/work-$UID" && exec timeout 60 bash -euo pipefail -c "$1"' \
        - "$(cat "$block")" < /dev/null > "$work/output" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        sed 's/^/    /' "$block" "$work/output" >&2
        fail "${page##*/}: the block ends with status $status"
    fi
    [ -z "$expected" ] || python3 "$top/Integration/Platform/page.py" expect "$expected" "$work/output" ||
        { sed 's/^/    /' "$block" "$work/output" >&2; fail "${page##*/}: the block prints something else"; }
}

count=0
for page in "${pages[@]}"; do
    mkdir -p "$work/blocks"
    python3 "$top/Integration/Platform/page.py" blocks "$page" "$work/blocks"
    while IFS=$'\t' read -r -u 9 heading kind block expected; do
        if [[ $kind == file\ * ]]; then
            in_machine tee "${kind#file }" < "$block" > /dev/null
            continue
        fi
        say "${page##*/}: $heading"
        run_block "$page" "$kind" "$block" "$expected"
        count=$((count + 1))
    done 9< "$work/blocks/list"
    rm -rf "$work/blocks"
done
[ "$count" -gt 0 ] || fail "there is no block to be run in ${pages[*]}"
say "$count blocks: done"
