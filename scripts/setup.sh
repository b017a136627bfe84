#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Installs what is needed to build, or to run all tests, on Debian 12, Debian 13 and Ubuntu 24.04.
#
#   scripts/setup.sh [build|test] [--simulate]
#
# build (the default): compiler, clang, bpftool and the libraries. test: that and what the tests need
# (other interpreters' roots are made by scripts/interpreters.sh). Nothing is installed twice: when
# all is there the script says nothing and changes nothing. --simulate prints what would be installed.
#
# libbpf must be 1.4 or later. Debian 13 has it; on Debian 12 it comes from bookworm-backports, whose
# mirror is the one that apt already uses; on Ubuntu 24.04 it is built from the kernel's own source
# package into /usr/local.
set -euo pipefail
# shellcheck source=mirror.sh
. "$(dirname "$0")/mirror.sh"

LIBBPF_MIN=1.4.0
CLANG_MIN=16 # the verifier of Linux 5.10 refuses what 14 and 15 make
here=$(cd "$(dirname "$0")" && pwd)
what=build simulate=

die() { echo "setup.sh: $*" >&2; exit 1; }
say() { echo "setup.sh: $*" >&2; }

for argument; do
    case $argument in
    build | test) what=$argument ;;
    --simulate) simulate=yes ;;
    *) die "unknown argument '$argument'; usage: setup.sh [build|test] [--simulate]" ;;
    esac
done

command -v apt-get >/dev/null || die "this is not Debian or Ubuntu (no apt-get). README.md lists what to install by hand"
# shellcheck disable=SC1091
system=$(. /etc/os-release && echo "$ID-${VERSION_ID:-}")
case $system in
debian-12) release=bookworm ;;
debian-13) release=trixie ;;
ubuntu-24.04) release=noble ;;
*) die "not tried on '$system' (Debian 12, 13 and Ubuntu 24.04 are). README.md lists what to install by hand" ;;
esac

has_package() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] || return
    case $1 in
    clang | llvm | libclang-rt-dev) # the distribution's own, of whatever version
        dpkg --compare-versions "$(dpkg-query -W -f '${Version}' "$1")" ge "1:$CLANG_MIN" ;;
    esac
}
# (Not grep -q: it would end before apt-cache has written all, which pipefail takes for an error.)
has_candidate() { apt-cache policy "$1" 2>/dev/null | awk '/^  Candidate: [0-9]/ { n++ } END { exit !n }'; }

# What to install; an alternative (a|b) is the first that is installed or can be.
packages() {
    echo make gcc libc6-dev pkg-config 'clang-19|clang' 'llvm-19|llvm' libelf-dev zlib1g-dev
    echo libcapstone-dev libcjson-dev libmicrohttpd-dev libiberty-dev binutils python3
    echo libprotobuf-c-dev protobuf-c-compiler libcurl4-openssl-dev
    case $release in
    noble) echo linux-tools-common linux-tools-generic ;;
    *) echo bpftool libbpf-dev ;;
    esac
    [ "$what" = test ] || return 0
    # unit tests and fuzzing, lint
    echo g++ libcmocka-dev 'libclang-rt-19-dev|libclang-rt-dev' 'clang-format-14|clang-format' clang-tidy cppcheck shellcheck
    # real programs, other roots, containers, sudo
    echo openssl python3-flask python3-django gunicorn uvicorn python3-gevent python3-networkx python3-sympy debootstrap util-linux procps mount xz-utils
    # kernels in qemu
    echo qemu-system-x86 busybox-static cpio zstd
    # speedscope in a browser (Ubuntu's chromium is a snap; that test says so and is skipped)
    echo nodejs npm
    [ "$release" = noble ] || echo chromium
}

choose() {
    local name
    for name in ${1//|/ }; do has_package "$name" && { echo "$name"; return; }; done
    # A Node.js from elsewhere brings its own npm, and conflicts with the distribution's.
    [ "$1" = npm ] && command -v npm >/dev/null && return
    for name in ${1//|/ }; do has_candidate "$name" && { echo "$name"; return; }; done
    echo "${1%%|*}"
}

libbpf_version() {
    PKG_CONFIG_PATH=/usr/local/lib/pkgconfig:/usr/local/lib64/pkgconfig:${PKG_CONFIG_PATH:-} \
        pkg-config --modversion libbpf 2>/dev/null || true
}

new_enough() { [ -n "$1" ] && dpkg --compare-versions "$1" ge "$LIBBPF_MIN"; }

has_backports() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' |
        awk -v want="$release-backports" '$0 == want { n++ } END { exit !n }'
}

add_backports() {
    local site keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    has_backports && return 0
    site=$(debian_mirror) || die "libbpf >= $LIBBPF_MIN comes from $release-backports. Add a line for it to /etc/apt/sources.list"
    say "adding $release-backports to apt's sources (pytrace-bpf-backports.list), for libbpf >= $LIBBPF_MIN"
    [ -e "$keyring" ] && keyring="[signed-by=$keyring] " || keyring=
    echo "deb $keyring$site $release-backports main" >/etc/apt/sources.list.d/pytrace-bpf-backports.list
    updated=
}

update() {
    [ -z "${updated:-}" ] || return 0
    apt-get -qq update || die "apt-get update failed; is the network there?"
    updated=yes
}

install() {
    local options=(-y -qq --no-install-recommends)
    [ -z "$simulate" ] || options=(--no-install-recommends --simulate)
    # shellcheck disable=SC2086 # the target release's option is two words
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" -o Dpkg::Use-Pty=0 install "$@" </dev/null ||
        die "apt-get install failed: $*"
}

# Ubuntu 24.04 has libbpf 1.3; the newest kernel source package that it offers has a later one.
build_libbpf() {
    local package dir
    package=$(apt-cache search --names-only '^linux-source-[0-9.]+$' | awk '{print $1}' | sort -V | tail -n 1)
    [ -n "$package" ] || die "libbpf >= $LIBBPF_MIN is needed, found '$(libbpf_version)', and there is no linux-source package to build it from. Install it by hand and give LIBBPF_PREFIX to make"
    say "building libbpf from $package into /usr/local"
    install "$package" bzip2 xz-utils
    [ -z "$simulate" ] || return 0
    dir=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$dir'" EXIT
    tar -xf "$(find /usr/src -maxdepth 2 -name "$package.tar.*" | head -n 1)" -C "$dir" --strip-components=1 \
        --wildcards '*/tools/lib' '*/tools/include' '*/tools/arch/*/include' '*/tools/scripts' '*/tools/build' \
        '*/scripts/bpf_doc.py' '*/include/uapi' '*/tools/bpf'
    make -s -C "$dir/tools/lib/bpf" prefix=/usr/local libdir=/usr/local/lib install install_headers \
        >"$dir/log" 2>&1 || { tail -n 20 "$dir/log" >&2; die "building libbpf failed"; }
    [ -e /usr/local/include/linux/bpf.h ] ||
        cp "$dir"/include/uapi/linux/{bpf,bpf_common,btf}.h /usr/local/include/linux/ 2>/dev/null || true
}

missing=()
wanted=$(packages)
for entry in $wanted; do
    name=$(choose "$entry")
    [ -z "$name" ] || has_package "$name" || missing+=("$name")
done
libbpf_missing=
new_enough "$(libbpf_version)" || libbpf_missing=yes
[ ${#missing[@]} -gt 0 ] || [ -n "$libbpf_missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    die "not installed yet: ${missing[*]}${libbpf_missing:+ libbpf >= $LIBBPF_MIN}. Run as root: sudo $here/setup.sh $what"
fi
update
if [ "$release" = bookworm ] && [ -n "$libbpf_missing" ]; then
    add_backports
    update
fi
# With the lists there, alternatives can be told.
missing=()
for entry in $wanted; do
    name=$(choose "$entry")
    [ -z "$name" ] || [ "$name" = libbpf-dev ] || has_package "$name" || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${#missing[@]} packages for '$what': ${missing[*]}"
    install "${missing[@]}"
fi
if [ -n "$libbpf_missing" ]; then
    case $release in
    bookworm) install -t bookworm-backports libbpf-dev ;;
    trixie) install libbpf-dev ;;
    noble) build_libbpf ;;
    esac
fi
[ -z "$simulate" ] || exit 0
new_enough "$(libbpf_version)" ||
    die "libbpf is still '$(libbpf_version)', and >= $LIBBPF_MIN is needed. Is another one in the way (pkg-config --variable=prefix libbpf)?"
