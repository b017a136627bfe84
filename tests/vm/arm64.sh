#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# The checks for arm64 that need no arm64 machine; each prints one PASS, FAIL or SKIP line.
#
#   tests/vm/arm64.sh BUILD
#
# - The BPF objects cross-build, by the same Makefile rule as on an arm64 machine.
# - An arm64 interpreter (Debian's python3.11-minimal, fetched by apt with its own state) is
#   refused with the reason and the documented exit code, as the site finder cannot read arm64 yet.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/private-apt.sh"
build=$(realpath -m "$1")
suite=bookworm package=python3.11-minimal
cache=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/arm64
log=$(mktemp)
trap 'rm -f "$log"' EXIT

result() { printf '%s\tarm64\t%s\t%s\n' "$1" "$2" "${3:-}"; }

objects() {
    local source object machine
    for source in "$here"/../../bpf/*.bpf.c; do
        object=$build/arm64/bpf/$(basename "${source%.c}").o
        if ! make -s -C "$here/../.." ARCH=arm64 BUILD="$build/arm64" "$object" >"$log" 2>&1; then
            result FAIL "cross-build of $(basename "$object")" "$(grep -m1 error "$log" || tail -n1 "$log")"
            continue
        fi
        # e_machine, at offset 18, must be EM_BPF (247).
        machine=$(od -An -tu2 -j 18 -N 2 "$object" | tr -d ' ')
        if [ "$machine" = 247 ]; then
            result PASS "cross-build of $(basename "$object")" "$(stat -c %s "$object") bytes"
        else
            result FAIL "cross-build of $(basename "$object")" "not a BPF object: e_machine $machine"
        fi
    done
}

fetch() {
    [ -x "$cache/root/usr/bin/python3.11" ] && return 0
    private_apt_init "$cache/apt" "$suite" arm64 || return 1
    mkdir -p "$cache/root"
    (cd "$cache" && private_apt_get "$cache/apt" download "$package") >>"$cache/apt/log" 2>&1 || return 1
    dpkg-deb -x "$cache/${package}"_*_arm64.deb "$cache/root"
    rm -rf "$cache/apt/state"
}

# The file alone is judged: nothing here can run it. This machine's own interpreter has to pass, or
# the check would pass for any file.
refusal() {
    local code=0 load=$build/tests/vm/load_image
    if ! fetch; then
        result SKIP "refusal of an arm64 interpreter" "cannot fetch $package; see $cache/apt/log"
        return
    fi
    if ! "$load" "$(realpath /usr/bin/python3)" >"$log" 2>&1; then
        result FAIL "refusal of an arm64 interpreter" "this machine's is refused too: $(head -n 1 "$log")"
        return
    fi
    "$load" "$cache/root/usr/bin/python3.11" >"$log" 2>&1 || code=$?
    if [ $code = 5 ] && grep -qiE 'arm64|aarch64' "$log"; then
        result PASS "refusal of an arm64 interpreter" "$(grep -iE -m1 'arm64|aarch64' "$log")"
    else
        result FAIL "refusal of an arm64 interpreter" "exit code $code: $(head -n 2 "$log" | tr '\n' ' ')"
    fi
}

objects
refusal
