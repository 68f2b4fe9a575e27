#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# Integration/Platform/packages.sh FOLDER
#
# Makes the Debian and the RPM package of the programs in FOLDER, twice each, and looks at them: the same file both
# times, lintian's opinion, and what happens when the first is installed, run and removed in a small Debian root that
# has no compiler, no Swift and no -dev package. Installs and uninstalls with contrib/install.sh, too. For root.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/contrib/dev/common.sh"
need_built_programs "${1:-}"
need_root
need_packages dpkg-dev binutils python3 lintian rpm mmdebstrap bash zsh fish mandoc

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8

# leaves_nothing WHAT: nothing of ours is in the Debian root any more.
leaves_nothing() {
    local left
    left=$(find "$work/root" -xdev \( -name '*tapas*' -o -name pasta \) ! -name tapas.deb ! -path '*/var/log/*' \
        ! -path '*/var/lib/rpm/*')
    [ -z "$left" ] || fail "removing $1 leaves: $left"
}

# make_twice KIND: makes the package twice, looks that both are the same, and leaves its path in $package.
make_twice() {
    "$top/contrib/package.sh" "$1" "$work/1" > /dev/null
    "$top/contrib/package.sh" "$1" "$work/2" > /dev/null
    cmp "$work"/1/*."$1" "$work"/2/*."$1" || fail "two runs make different packages of kind $1"
    package=$(echo "$work"/1/*."$1")
}

say "contrib/install.sh"
DESTDIR=$work/tree "$top/contrib/install.sh" --prefix /opt/tapas --as-pasta --as-passt
binaries=$work/tree/opt/tapas/bin
for name in tapas tapasctl tapas-oci-hook pasta; do "$binaries/$name" --version > /dev/null || fail "$name does not run"; done
share=$work/tree/opt/tapas/share
bash -n "$share/bash-completion/completions/tapas"
bash -n "$share/bash-completion/completions/tapasctl"
zsh -n "$share/zsh/vendor-completions/_tapas"
zsh -n "$share/zsh/vendor-completions/_tapasctl"
fish -n "$share/fish/vendor_completions.d/tapas.fish"
fish -n "$share/fish/vendor_completions.d/tapasctl.fish"
# shellcheck disable=SC2016 # the inner shell expands it
words=$(bash -c 'source "$1"; COMP_WORDS=(tapas --no-mon); COMP_CWORD=1; _tapas; echo "${COMPREPLY[*]}"' - \
    "$share/bash-completion/completions/tapas")
[ "$words" = --no-monitor ] || fail "bash completes --no-mon to '$words'"
for page in "$share"/man/man*/*; do
    [ -z "$(mandoc -T lint -W warning "$page" 2>&1 | grep -v -e 'referenced manual not found' || true)" ] ||
        { mandoc -T lint -W warning "$page" >&2; fail "mandoc warns of $page"; }
done
grep -q 'ExecStart=/opt/tapas/bin/tapas ' "$work/tree/opt/tapas/lib/systemd/system/tapas@.service" ||
    fail "the unit does not start the program that was installed"
size=$(stat -c %s "$binaries/tapas")
echo "tapas, stripped: $size bytes"
# The aim is less than 12,000,000; some 900,000 are the parser of regular expressions, which String's methods bring along.
[ "$size" -lt 13500000 ] || fail "tapas has $size bytes, more than 13,500,000"
# What the documents say is needed: no symbol of a newer C library.
stated=$(sed -n 's/.*glibc \([0-9.]*\) or later.*/\1/p' "$top/docs/faq.md" | head -n 1)
[ -n "$stated" ] || fail "docs/faq.md does not say which glibc is needed"
for name in tapas tapasctl tapas-oci-hook; do
    needed=$(objdump -T "$binaries/$name" | grep -o 'GLIBC_[0-9.]*' | sort -u -V | tail -n 1)
    [ "$(printf '%s\n' "${needed#GLIBC_}" "$stated" | sort -V | tail -n 1)" = "$stated" ] ||
        fail "$name needs $needed, and docs/faq.md says glibc $stated"
done
echo "glibc $stated or later is enough"
DESTDIR=$work/tree "$top/contrib/install.sh" --prefix /opt/tapas --uninstall
left=$(find "$work/tree" ! -type d)
[ -z "$left" ] || fail "uninstalling leaves: $left"

say "Debian package"
make_twice deb
lintian --allow-root --fail-on error,warning "$package" || fail "lintian objects to the package"

say "a Debian root without Swift"
mmdebstrap --quiet --variant=custom --include=dpkg,busybox-static,libc-bin,dash,coreutils,diffutils,sed,grep,findutils \
    --include=base-files,base-passwd,libmnl0,libcap2,libseccomp2,libstdc++6 bookworm "$work/root"
cp "$package" "$work/root/tapas.deb"
chroot "$work/root" dpkg --install /tapas.deb
[ "$(chroot "$work/root" readlink -f /usr/bin/pasta)" = /usr/bin/tapas ] || fail "pasta is not an alternative"
# As the root of a mount namespace: inside of chroot(2) the kernel refuses user namespaces. Its own network namespace, so
# that the machine's network is not looked at: offline, tapas works all the same.
# shellcheck disable=SC2016 # the inner shell expands it
unshare --net --mount --propagation private -- sh -ec '
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mkdir -p "$1/old"
cd "$1"
pivot_root . old
exec /bin/busybox sh -ec "
cd /
busybox umount -l /old
pasta --version > /dev/null
exec tapas --config-net --no-monitor -t none -u none -T none -U none -- busybox ip address"
' - "$work/root" > "$work/addresses" 2> "$work/errors" ||
    { cat "$work/errors" >&2; fail "tapas does not run in a root that has only the package's dependencies"; }
rmdir "$work/root/old"
grep -q 169.254.2.1/16 "$work/addresses" || { cat "$work/addresses" >&2; fail "the namespace has no address"; }
chroot "$work/root" dpkg --purge tapas
leaves_nothing "the Debian package"

say "RPM package"
make_twice rpm
# Debian's rpm knows none of the libraries: it installs without asking for them, into the same root.
rpm --root "$work/root" --initdb
rpm --root "$work/root" --install --nodeps "$package"
# shellcheck disable=SC2016 # the inner shell expands it
unshare --mount --propagation private -- sh -ec '
if chroot "$1" tapas --version 2> "$1/errors"; then exit 1; fi
grep -q "/proc is not mounted" "$1/errors"
rm "$1/errors"
mount -t proc proc "$1/proc"
exec chroot "$1" tapas --version' - "$work/root" || fail "the program of the RPM package does not run, or runs without /proc"
rpm --root "$work/root" --erase tapas
leaves_nothing "the RPM package"
say "packages: done"
