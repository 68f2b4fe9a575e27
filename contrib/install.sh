#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# contrib/install.sh [--prefix DIR] [--as-pasta] [--as-passt] [--uninstall]
#
# Installs tapas, tapasctl and tapas-oci-hook with their manual pages, completions, systemd units, OCI hook definitions
# and security policies below DIR, /usr/local by default. --as-pasta and --as-passt also make a link of that name.
# --uninstall removes what an installation with the same --prefix has put there.
#
# Environment: DESTDIR is put in front of every path (for packages). TAPAS_BUILD is a folder with the three programs,
# already built; without it they are built here, which needs Swift and the packages of contrib/test.sh.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/contrib/dev/common.sh"

prefix=/usr/local
links=()
uninstall=false
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -ge 2 ] || fail "--prefix: a folder must follow"; prefix=$2; shift ;;
        --prefix=*) prefix=${1#*=} ;;
        --as-pasta) links+=(pasta) ;;
        --as-passt) links+=(passt) ;;
        --uninstall) uninstall=true ;;
        -h | --help) sed -n '4,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown option '$1': see $0 --help" ;;
    esac
    shift
done
case $prefix in
    /*) ;;
    *) fail "--prefix '$prefix': give an absolute path" ;;
esac
prefix=${prefix%/}
root=${DESTDIR:-}
programs=(tapas tapasctl tapas-oci-hook)
# What was installed, a path a line without DESTDIR, so that --uninstall removes just that.
manifest=$root$prefix/share/tapas/manifest

if $uninstall; then
    [ -r "$manifest" ] || fail "nothing to remove: $manifest does not exist; give the --prefix of the installation"
    mapfile -t files < "$manifest"
    for file in "${files[@]}"; do
        case $file in
            "$prefix"/* | /etc/*) ;;
            *) fail "$manifest names '$file', which is not below $prefix: nothing is removed" ;;
        esac
    done
    for file in "${files[@]}"; do rm -f "$root$file"; done
    rm -f "$manifest"
    # Folders that are ours alone; shared ones stay.
    for folder in share/tapas/hooks.d share/tapas/apparmor share/tapas/selinux share/tapas share/doc/tapas/decisions \
        share/doc/tapas/man share/doc/tapas; do
        rmdir "$root$prefix/$folder" 2> /dev/null || true
    done
    echo "removed ${#files[@]} files below $root$prefix"
    exit
fi

# Where the programs are.
if [ -n "${TAPAS_BUILD:-}" ]; then
    build=$TAPAS_BUILD
else
    need_packages "${build_packages[@]}"
    need_swift
    cd "$top"
    build_release >&2
    build=$(dirname "$binary")
fi
for program in "${programs[@]}"; do
    [ -x "$build/$program" ] || fail "$build/$program does not exist: build it with 'swift build -c release" \
        "--static-swift-stdlib --product $program'"
done

installed=()
# put MODE FILE PATH: installs FILE as PATH below the prefix.
put() {
    install -D -m "$1" "$2" "$root$prefix/$3" || fail "cannot write $root$prefix/$3: run as a user who may, or give another --prefix"
    installed+=("$prefix/$3")
}
# generate PATH COMMAND...: the command's output becomes PATH.
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT
generate() {
    local path=$1
    shift
    "$@" > "$generated/file" || fail "failed: $*"
    put 644 "$generated/file" "$path"
}

for program in "${programs[@]}"; do
    strip --strip-all -o "$generated/$program" "$build/$program" 2> /dev/null || {
        echo "not stripped (is binutils installed?): $program" >&2
        cp "$build/$program" "$generated/$program"
    }
    put 755 "$generated/$program" "bin/$program"
done
for link in ${links[@]+"${links[@]}"}; do
    ln -sfn tapas "$root$prefix/bin/$link"
    installed+=("$prefix/bin/$link")
done

for page in "$top"/docs/man/*.[1-8]; do
    name=${page##*/}
    put 644 "$page" "share/man/man${name##*.}/$name"
done

# Completions come from the programs themselves.
for shell in bash zsh fish; do
    case $shell in
        bash) path=share/bash-completion/completions/%s ;;
        zsh) path=share/zsh/vendor-completions/_%s ;;
        fish) path=share/fish/vendor_completions.d/%s.fish ;;
    esac
    # shellcheck disable=SC2016,SC2059 # the inner shell expands; the format is one of the three above
    generate "$(printf "$path" tapas)" sh -c '"$1" --help | "$2" "$3"' - \
        "$build/tapas" "$top/contrib/dev/completions.py" "$shell"
    # shellcheck disable=SC2016,SC2059
    generate "$(printf "$path" tapasctl)" sh -c '"$1" --generate-completion-script "$2" | sed "1{/^#!/d}"' - \
        "$build/tapasctl" "$shell"
done

# What names a program by its path gets the path that it has now.
for unit in "$top"/contrib/systemd/*.service; do
    generate "lib/systemd/system/${unit##*/}" sed "s|/usr/bin/|$prefix/bin/|g" "$unit"
done
hooks=share/tapas/hooks.d
# The folder where Podman and CRI-O look for hooks without configuration.
[ "$prefix" != /usr ] || hooks=share/containers/oci/hooks.d
for hook in "$top"/contrib/hooks.d/*.json; do
    generate "$hooks/${hook##*/}" sed "s|/usr/bin/|$prefix/bin/|g" "$hook"
done
for policy in apparmor selinux; do
    for file in "$top/contrib/$policy"/*; do
        generate "share/tapas/$policy/${file##*/}" sed "s|/usr/bin/|$prefix/bin/|g" "$file"
    done
done

for file in README.md CHANGELOG.md LICENSE; do put 644 "$top/$file" "share/doc/tapas/$file"; done
while IFS= read -r file; do put 644 "$top/$file" "share/doc/tapas/${file#docs/}"; done \
    < <(cd "$top" && find docs -name '*.md' -o -name '*.svg' | LC_ALL=C sort)

mkdir -p "${manifest%/*}"
printf '%s\n' "${installed[@]}" > "$manifest"
chmod 644 "$manifest"
echo "installed ${#installed[@]} files below $root$prefix"
if [ -z "$root" ] && [ "$hooks" = share/tapas/hooks.d ]; then
    echo "Podman finds the hook with --hooks-dir $prefix/$hooks"
fi
