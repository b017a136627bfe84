#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Make the guest's root, an initramfs: busybox, the tool, the test files and some interpreters.
#
#   tests/vm/image.sh OUT.cpio TOOL TESTS INTERPRETER ...
#
# TESTS is a folder that becomes /test. An INTERPRETER is ROOT:PATH, where ROOT is a suite's name
# (one of the roots that scripts/interpreters.sh made, which becomes /roots/ROOT) or "host" (this
# machine's, which also runs the comparison). Only what python needs is copied: its library without
# the big parts that no test imports, and the shared objects that ldd names.
set -euo pipefail

roots=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/roots
out=$1 tool=$2 tests=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# skeleton DIR: the folders, and the links that every Debian root has today.
skeleton() {
    mkdir -p "$1"/{proc,sys,dev,tmp,root,run,etc,var/cache} "$1"/usr/{bin,sbin,lib,lib64}
    local name
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$1/$name"; done
}

# copy_objects ROOT DIR FILE ...: the shared objects that the ELF files need, into DIR.
copy_objects() {
    local root=$1 dir=$2 object
    shift 2
    chroot "$root" ldd "$@" 2>/dev/null | sed -nE 's/^.*[ \t](\/[^ ]+) \(0x[0-9a-f]+\)$/\1/p' |
        sort -u | while read -r object; do
        [ -e "$dir$object" ] || install -D "$(chroot "$root" realpath "$object" | sed "s|^|$root|")" \
            "$dir$object"
    done
}

# glibc opens libgcc_s itself when a thread ends by pthread_exit(); ldd does not know.
copy_libgcc() {
    local object
    for object in "$1"/usr/lib/*-linux-gnu/libgcc_s.so.1 "$1"/lib/*-linux-gnu/libgcc_s.so.1; do
        [ ! -e "$object" ] || install -D "$object" "$2${object#"$1"}"
    done
}

# copy_python ROOT DIR PATH
copy_python() {
    local root=$1 dir=$2 path=$3 lib modules
    lib=/usr/lib/python$(chroot "$root" "$path" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cp -a "$root$path" "$dir$path"
    tar -c -C "$root" --exclude='config-*' --exclude=test --exclude=tests --exclude=lib2to3 \
        --exclude=pydoc_data --exclude=distutils --exclude=idlelib --exclude=ensurepip \
        --exclude=turtledemo --exclude=unittest --exclude='_ssl.*' --exclude='_hashlib.*' \
        --exclude='_curses*' --exclude='readline.*' --exclude='_dbm.*' --exclude='_sqlite3.*' \
        --exclude='_codecs_*' --exclude='_*test*' --exclude=tkinter --exclude='_tkinter*' \
        --exclude='_remote_debugging*' --exclude='*-3??d-*' --exclude=_vendor --exclude=dist-packages \
        ".$lib" | tar -x -C "$dir"
    mapfile -t modules < <(cd "$root" && find ".$lib/lib-dynload" \
        \( -name '_ctypes.*' -o -name '_json.*' -o -name '_asyncio.*' \) | cut -c2-)
    copy_objects "$root" "$dir" "$path" "${modules[@]}"
    copy_libgcc "$root" "$dir"
}

skeleton "$work"
install /bin/busybox "$work/usr/bin/busybox"
for applet in $(/bin/busybox --list); do
    [ -e "$work/usr/bin/$applet" ] || ln -s busybox "$work/usr/bin/$applet"
done
install "$tool" "$work/usr/bin/pytrace-bpf"
copy_objects / "$work" "$(realpath "$tool")"
cp -r "$tests" "$work/test"
ln -s /test/init "$work/init"
for interpreter; do
    root=${interpreter%%:*} path=${interpreter#*:}
    if [ "$root" = host ]; then
        copy_python / "$work" "$path"
    else
        [ -d "$work/roots/$root" ] || skeleton "$work/roots/$root"
        copy_python "$roots/$root" "$work/roots/$root" "$path"
    fi
done
(cd "$work" && find . -print0 | cpio --null --create --format=newc --quiet --owner=0:0) >"$out"
