# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts share: messages, packages, and what the machine must have. Sourced, not run.

# A stage begins; with the seconds since the script began, so that a log shows what takes how long.
say() { printf '\n== %s (at %d s)\n' "$*" "$SECONDS"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Installs the Debian packages named, those that are missing; without the right to, says which.
need_packages() {
    local missing=() package
    command -v dpkg-query > /dev/null || {
        printf '%s: not Debian: make sure that these are here: %s\n' "${0##*/}" "$*" >&2
        return 0
    }
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2> /dev/null | grep -q '^ii' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo > /dev/null || fail "missing packages; as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -q -q || printf '%s: apt-get update failed; trying the lists there are\n' "${0##*/}" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
        > /dev/null || fail "apt-get could not install: ${missing[*]}"
}

# A Swift toolchain of 6.2 or newer.
need_swift() {
    local version
    command -v swift > /dev/null || fail "no Swift toolchain in PATH: install Swift 6.2 or newer (swift.org/install)"
    version=$(swift --version 2> /dev/null | sed -n 's/.*Swift version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' | head -n 1)
    # shellcheck disable=SC2086 # two words
    set -- $version
    [ "${1:-0}" -gt 6 ] || { [ "${1:-0}" -eq 6 ] && [ "${2:-0}" -ge 2 ]; } ||
        fail "Swift ${1:-?}.${2:-?} is too old: tapas needs 6.2 or newer (swift.org/install)"
}

# /dev/net/tun, opened as tapas will open it.
need_tun() {
    local error who
    who=$(id -un 2> /dev/null) || who="user $(id -u)"
    [ -e /dev/net/tun ] || [ -L /dev/net/tun ] ||
        fail "/dev/net/tun does not exist (ENOENT): load the driver as root with 'modprobe tun'; in a container, start" \
            "it with --device /dev/net/tun"
    [ "$(LC_ALL=C stat -L -c %F,%t:%T /dev/net/tun 2> /dev/null)" = "character special file,a:c8" ] ||
        fail "/dev/net/tun is not the tun device: as root, rm -r /dev/net/tun && mknod -m 666 /dev/net/tun c 10 200;" \
            "in a container, start it with --device /dev/net/tun"
    error=$( { LC_ALL=C bash -c 'exec 3<> /dev/net/tun'; } 2>&1) && return 0
    case $error in
        *"Permission denied"*)
            [ ! -r /dev/net/tun ] || [ ! -w /dev/net/tun ] ||
                fail "/dev/net/tun may not be opened though its mode allows it (EACCES): its file system is mounted with" \
                    "nodev (findmnt -T /dev/net/tun), or a security module forbids it"
            fail "/dev/net/tun may not be opened by $who (EACCES): as root, chmod 0666 /dev/net/tun, or give your" \
                "group access with a udev rule" ;;
        *"Operation not permitted"*)
            fail "/dev/net/tun is forbidden here (EPERM): the device policy of a container or a security module says" \
                "no; start the container with --device /dev/net/tun" ;;
        *"No such device"*)
            fail "/dev/net/tun has no driver behind it (ENODEV or ENXIO): load it as root with 'modprobe tun'," \
                "or use a kernel with CONFIG_TUN" ;;
        *) fail "/dev/net/tun cannot be opened: $error" ;;
    esac
}

# User namespaces, made as tapas will make them.
need_user_namespaces() {
    local error who
    who=$(id -un 2> /dev/null) || who="user $(id -u)"
    error=$(LC_ALL=C unshare --user --map-root-user --net --mount --uts --ipc --pid --fork true 2>&1) && return 0
    case $error in
        *"No space left"*)
            fail "no more namespaces may be made (ENOSPC), the limits are:" \
                "$(cd /proc/sys/user && grep -H . max_{user,net,mnt,uts,ipc,pid}_namespaces | tr '\n' ' ')" \
                "- as root, raise those that are low: sysctl user.max_user_namespaces=15000 and its like" ;;
        *"Operation not permitted"* | *"Permission denied"*)
            fail "user namespaces are not permitted to $who (EPERM): as root, sysctl" \
                "kernel.unprivileged_userns_clone=1 (Debian's older kernels) or" \
                "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container, its seccomp policy must allow" \
                "unshare(2)" ;;
        *"Invalid argument"*)
            fail "this kernel has no user or network namespaces (EINVAL): it needs CONFIG_USER_NS and CONFIG_NET_NS" ;;
        *) fail "user namespaces do not work: $error" ;;
    esac
}

need_root() {
    [ "$(id -u)" -eq 0 ] || fail "this is for root only"
}

# need_built_programs FOLDER: exports TAPAS_BUILD, the absolute path of the folder that has the programs.
need_built_programs() {
    [ -x "$1/tapas" ] || fail "name the folder that the built programs are in"
    TAPAS_BUILD=$(cd "$1" && pwd)
    export TAPAS_BUILD
}

# What tapas is built with and linked to.
# shellcheck disable=SC2034 # for those who source this
build_packages=(libmnl-dev libcap-dev libseccomp-dev pkg-config)

# Builds the program as it is delivered; leaves its path in $binary.
build_release() {
    say "building tapas (release)"
    swift build -c release --static-swift-stdlib --product tapas
    swift build -c release --static-swift-stdlib --product tapasctl
    swift build -c release --static-swift-stdlib --product tapas-oci-hook
    binary=$(swift build -c release --show-bin-path)/tapas
    [ -x "$binary" ] || fail "the build left no program at $binary"
}
