#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Fetch Debian's cloud kernels for the kernel matrix, one per suite, with the mirror's own packages.
#
#   tests/vm/kernels.sh [SUITE ...]   one line per suite: SUITE<TAB>RELEASE<TAB>PATH OF THE KERNEL
#
# apt works on private state under $PYTRACE_CACHE (default /var/cache/pytrace-bpf), so the system's
# sources and package lists stay as they are; the mirror is the one that the system uses. A suite's
# kernel is looked up again after a week (sid moves), and when the mirror cannot be reached the
# kernel of the last time is used, which is said.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/private-apt.sh"
cache=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/kernels
max_age_days=7

# The packages that make up a suite's cloud kernel: linux-image-cloud-amd64 names the current
# linux-image-VERSION; from 2026 on that one only depends on linux-binary-* and linux-modules-*.
kernel_packages() {
    local state=$1 todo=(linux-image-cloud-amd64) name
    local -A seen=()
    while [ ${#todo[@]} -gt 0 ]; do
        name=${todo[0]}
        todo=("${todo[@]:1}")
        [ -z "${seen[$name]:-}" ] || continue
        seen[$name]=yes
        echo "$name"
        mapfile -t -O ${#todo[@]} todo < <(private_apt_cache "$state" depends --important "$name" |
            sed -nE 's/^ *\|?(Pre)?Depends: (linux-(image|binary)-[^ ]*)$/\2/p')
    done
}

fetch() {
    local suite=$1 state=$cache/apt-$1 tmp=$cache/$1.tmp packages=() deb kernel
    private_apt_init "$state" "$suite" amd64 || return 1
    mapfile -t packages < <(kernel_packages "$state")
    rm -rf "$tmp"
    mkdir -p "$tmp/debs" "$tmp/root"
    (cd "$tmp/debs" && private_apt_get "$state" download "${packages[@]}") >>"$state/log" 2>&1 || return 1
    for deb in "$tmp"/debs/*.deb; do
        # Without the modules: they are most of it, and the guest needs none.
        dpkg-deb --fsys-tarfile "$deb" |
            tar -x -C "$tmp/root" --exclude='*.ko' --exclude='*.ko.*'
    done
    kernel=$(find "$tmp/root" -name 'vmlinuz*' -type f | head -n 1)
    [ -n "$kernel" ] || { echo "no kernel in: ${packages[*]}" >>"$state/log"; return 1; }
    mv "$kernel" "$tmp/vmlinuz"
    find "$tmp/root" -name 'config-*' -exec cp {} "$tmp/config" \;
    kernel_release "$tmp/vmlinuz" >"$tmp/release"
    rm -rf "$tmp/root" "$tmp/debs" "$state/state" "${cache:?}/$suite"
    mv "$tmp" "$cache/$suite"
}

# The release a bzImage says of itself: a string whose offset is at 0x20e, less 0x200
# (Documentation/arch/x86/boot.rst, kernel_version).
kernel_release() {
    local at
    at=$(od -An -tu2 -j $((0x20e)) -N 2 "$1")
    tail -c +$((at + 0x200 + 1)) "$1" | head -c 200 | tr '\0' '\n' | head -n 1 | cut -d' ' -f1
}

status=0
mkdir -p "$cache"
[ $# -gt 0 ] || set -- bullseye bookworm trixie sid
for suite; do
    if [ -z "$(find "$cache/$suite/vmlinuz" -mtime -$max_age_days 2>/dev/null)" ]; then
        if fetch "$suite"; then
            touch "$cache/$suite/vmlinuz"
        else
            echo "kernels.sh: cannot fetch $suite's kernel; the log is $cache/apt-$suite/log" >&2
        fi
    fi
    if [ -e "$cache/$suite/vmlinuz" ]; then
        printf '%s\t%s\t%s\n' "$suite" "$(cat "$cache/$suite/release")" "$cache/$suite/vmlinuz"
    else
        status=1
    fi
done
exit $status
