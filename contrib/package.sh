#!/bin/bash
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# contrib/package.sh deb|rpm [FOLDER]
#
# Makes a package of tapas for the system that this runs on, with dpkg-deb or rpmbuild, and leaves it in FOLDER
# (.build/packages by default). It holds what contrib/install.sh installs with --prefix /usr; "pasta" is an alternative
# that the administrator chooses. Two runs on the same commit and the same programs make the same file.
#
# Environment: TAPAS_BUILD is a folder with the programs, already built (see contrib/install.sh).
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/contrib/dev/common.sh"

case ${1:-} in
    deb | rpm) kind=$1 ;;
    -h | --help) sed -n '4,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "name the kind of package, deb or rpm: see $0 --help" ;;
esac
folder=${2:-$top/.build/packages}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ "$kind" = deb ]; then need_packages dpkg-dev binutils python3; else need_packages rpm binutils python3; fi
if [ -z "${TAPAS_BUILD:-}" ]; then
    need_packages "${build_packages[@]}"
    need_swift
    cd "$top"
    build_release >&2
    TAPAS_BUILD=$(dirname "$binary")
fi
export TAPAS_BUILD
version=$("$TAPAS_BUILD/tapas" --version | sed -n '1s/^tapas \([0-9][0-9.]*\).*/\1/p')
[ -n "$version" ] || fail "$TAPAS_BUILD/tapas --version does not print a version"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2> /dev/null || stat -c %Y "$top/CHANGELOG.md")}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
tree=$work/tree
DESTDIR=$tree "$top/contrib/install.sh" --prefix /usr > /dev/null
rm "$tree/usr/share/tapas/manifest"
find "$tree/usr/share/man" -type f -exec gzip -9 -n {} +

if [ "$kind" = deb ]; then
    architecture=$(dpkg --print-architecture)
    documents=$tree/usr/share/doc/tapas
    install -m 644 "$top/contrib/debian/copyright" "$documents/copyright"
    rm "$documents/LICENSE"
    {
        printf 'tapas (%s) unstable; urgency=medium\n\n  * The changes are in /usr/share/doc/tapas/CHANGELOG.md.\n\n' "$version"
        printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' "$top/contrib/debian/control")" \
            "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9 -n > "$documents/changelog.gz"
    # The libraries that the programs are linked to, with the versions they need.
    mkdir -p "$work/debian"
    printf 'Source: tapas\n\nPackage: tapas\nArchitecture: any\n' > "$work/debian/control"
    depends=$(cd "$work" && dpkg-shlibdeps -O "$tree"/usr/bin/tapas "$tree"/usr/bin/tapasctl \
        "$tree"/usr/bin/tapas-oci-hook 2> /dev/null | sed -n 's/^shlibs:Depends=//p')
    [ -n "$depends" ] || fail "dpkg-shlibdeps found no libraries"
    mkdir -p "$tree/DEBIAN"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@DEPENDS@/$depends/" \
        -e "s/@SIZE@/$(du -sk --apparent-size "$tree/usr" | cut -f 1)/" "$top/contrib/debian/control" > "$tree/DEBIAN/control"
    for script in postinst prerm; do install -m 755 "$top/contrib/debian/$script" "$tree/DEBIAN/$script"; done
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) > "$tree/DEBIAN/md5sums"
    chmod -R u+rwX,go+rX,go-w "$tree"
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    package=$folder/tapas_${version}_$architecture.deb
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" > /dev/null
else
    spec=$work/tapas.spec
    # Without a name of its own, the license file is a document; rpm finds the libraries by itself.
    sed -e "s/@VERSION@/$version/" "$top/contrib/rpm/tapas.spec" > "$spec"
    mv "$tree/usr/share/zsh/vendor-completions" "$tree/usr/share/zsh/site-functions"
    rpmbuild -bb --quiet --define "_topdir $work/rpm" --define "tapas_tree $tree" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
        --define "_buildhost reproducible" --define "_build_id_links none" "$spec" > "$work/rpmbuild.log" 2>&1 ||
        { cat "$work/rpmbuild.log" >&2; fail "rpmbuild refused the specification"; }
    package=$(find "$work/rpm/RPMS" -name '*.rpm')
    [ -n "$package" ] || fail "rpmbuild made no package"
    cp "$package" "$folder/"
    package=$folder/${package##*/}
fi
echo "$package"
