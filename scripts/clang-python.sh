#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Build a CPython with clang as python-build-standalone does, or otherwise, into a root of its own that the
# end-to-end tests can trace.
#
#   scripts/clang-python.sh [OPTION]... NAME SOURCE [CONFIGURE-OPTION]...
#
#   NAME     of the root, such as thin-3.13
#   SOURCE   an archive of CPython's source: a file, or where to get it. Debian's mirror has them
#            (pool/main/p/python3.13/python3.13_3.13.5.orig.tar.xz)
#
#   --gcc           with gcc instead of clang
#   --cflags FLAGS  instead of -O3
#   --lto           ThinLTO by lld
#   --pgo           profile guided, by a short run
#   --bolt          laid out anew by BOLT, as CPython's own configure does it (3.12 and later)
#   --bolt-all      the same by hand and with the evaluation loop, which CPython 3.13 leaves out
#   --strip         without symbols
#   --jobs N        how many compilers at once (default: as many as there are processors)
#
# Roots lie under $PYTRACE_CACHE (default /var/cache/pytrace-bpf/built), where `make e2e` does not
# look, since a build takes from 4 minutes to an hour: see docs/TESTING.md. The compilers are those of
# $PYTRACE_BUILD_SUITE (default trixie, with its clang 19 and BOLT), in a root beside them.
set -euo pipefail
# shellcheck source=mirror.sh
. "$(dirname "$0")/mirror.sh"

cache=${PYTRACE_CACHE:-/var/cache/pytrace-bpf/built}
suite=${PYTRACE_BUILD_SUITE:-trixie}
llvm=${PYTRACE_BUILD_LLVM:-19}
task="-m test test_json test_re test_generators test_asyncgen test_exceptions"
cc=clang-$llvm flags=-O3 lto='' pgo='' bolt='' strip='' jobs=$(nproc)

die() { echo "clang-python.sh: $*" >&2; exit 1; }
say() { echo "clang-python.sh: $*" >&2; }
usage() { sed -n '/^#  /{ s/^# \?//; p }' "$0"; }

# What an interpreter needs to run, as a root: each result is a copy of it.
make_base() {
    [ -e "$cache/base/.done" ] && return
    rm -rf "$cache/base"
    say "debootstrap $suite"
    debootstrap --variant=minbase \
        --include=ca-certificates,libssl3t64,libffi8,zlib1g,libbz2-1.0,liblzma5,libsqlite3-0,libexpat1,libuuid1 \
        "$suite" "$cache/base" "$(debian_mirror)" >"$cache/base.log" 2>&1 ||
        die "debootstrap failed; the log is $cache/base.log"
    mountpoint -q "$cache/base/proc" && umount "$cache/base/proc"
    chroot "$cache/base" apt-get clean
    touch "$cache/base/.done"
}

# The base, and what compiles.
make_builder() {
    local builder=$cache/builder
    [ -e "$builder/.done" ] && return
    rm -rf "$builder"
    say "the compilers of $suite"
    cp -a --reflink=auto "$cache/base" "$builder"
    # shellcheck disable=SC2046
    chroot "$builder" apt-get -qq $(apt_options) update
    DEBIAN_FRONTEND=noninteractive chroot "$builder" apt-get -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 install "clang-$llvm" "lld-$llvm" "llvm-$llvm" "bolt-$llvm" \
        "libclang-rt-$llvm-dev" gcc libc6-dev make pkgconf binutils xz-utils libssl-dev libffi-dev \
        zlib1g-dev libbz2-dev liblzma-dev libsqlite3-dev libexpat1-dev uuid-dev \
        </dev/null >"$cache/builder.log" 2>&1 || die "the log is $cache/builder.log"
    mkdir -p "$builder/build"
    touch "$builder/.done"
}

# With a /proc, which is gone with the mount namespace: BOLT reads it.
in_builder() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$cache/builder" \
        env -C "/build/$name" PATH="/usr/lib/llvm-$llvm/bin:/usr/bin:/bin" LC_ALL=C.UTF-8 "$@"
}

unpack() {
    local to=$cache/builder/build/$name

    rm -rf "$to" && mkdir -p "$to"
    case $source in
    *://*) curl -fsSL "$source" -o "$to.archive" || die "cannot get $source" ;;
    *) cp "$source" "$to.archive" ;;
    esac
    tar -xf "$to.archive" -C "$to" --strip-components=1 && rm "$to.archive"
}

configure() {
    local ldflags=
    local options=(--prefix=/usr --without-ensurepip --disable-test-modules)
    [ -z "$lto" ] || { options+=(--with-lto=thin) ldflags+=" -fuse-ld=lld"; }
    [ -z "$pgo" ] || options+=(--enable-optimizations)
    [ "$bolt" != own ] || options+=(--enable-bolt)
    # (BOLT moves functions, for which it needs the relocations; and LLVM 19's cannot move the loop of
    # a position-independent executable.)
    [ "$bolt" != all ] || {
        ldflags+=" -Wl,--emit-relocs"
        options+=(CFLAGS_NODIST=-fno-pie "LINKCC=$cc -no-pie")
    }
    in_builder env CC="$cc" AR="llvm-ar" RANLIB="llvm-ranlib" CFLAGS="$flags" LDFLAGS="${ldflags# }" \
        ./configure "${options[@]}" "${extra[@]}"
}

# By hand: an instrumented interpreter runs the task, and the layout follows what it counted.
bolt_all() {
    in_builder llvm-bolt python -instrument -instrumentation-file-append-pid \
        -instrumentation-file="/build/$name/python.fdata" -o python.counting || return
    # shellcheck disable=SC2086 # several words
    in_builder ./python.counting $task || true # (whether the tests pass does not matter here)
    in_builder sh -c 'merge-fdata python.*.fdata >python.fdata' &&
        in_builder llvm-bolt python -data=python.fdata -reorder-blocks=ext-tsp -reorder-functions=cdsort \
        -split-functions -icf=1 -inline-all -split-eh -peepholes=none -jump-tables=aggressive \
        -inline-ap -indirect-call-promotion=all -use-gnu-stack -frame-opt=hot -o python.bolt &&
        in_builder mv python.bolt python
}

install_root() {
    local root=$cache/roots/$name

    rm -rf "$root" "$root.tmp" && mkdir -p "$cache/roots" &&
        cp -a --reflink=auto "$cache/base" "$root.tmp" && rm "$root.tmp/.done" &&
        in_builder make install DESTDIR="/build/$name.out" || return
    cp -a "$cache/builder/build/$name.out/." "$root.tmp/"
    rm -rf "$cache/builder/build/$name.out" "$root.tmp"/usr/lib/python3.*/test
    [ -z "$strip" ] || strip "$root.tmp"/usr/bin/python3.*[0-9] || true
    [ -z "$strip" ] || find "$root.tmp/usr/lib" -name 'libpython3*.so.1.0' -exec strip {} +
    echo "$name" >"$root.tmp/.stamp"
    mv "$root.tmp" "$root"
}

while [ $# -gt 0 ]; do
    case $1 in
    --gcc) cc=gcc ;;
    --cflags) flags=$2; shift ;;
    --lto) lto=1 ;;
    --pgo) pgo=1 ;;
    --bolt) bolt=own ;;
    --bolt-all) bolt=all ;;
    --strip) strip=1 ;;
    --jobs) jobs=$2; shift ;;
    -h | --help) usage; exit ;;
    -*) die "unknown option $1 (--help lists them)" ;;
    *) break ;;
    esac
    shift
done
[ $# -ge 2 ] || { usage >&2; exit 2; }
name=$1 source=$2
shift 2
extra=("$@")
[ "$(id -u)" = 0 ] || die "must run as root (debootstrap and chroot need it)"
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
make_base
make_builder
flock -u 9
log=$cache/$name.log
# (with && between, as bash forgets -e where what fails is tested)
{
    unpack && configure && in_builder make -j"$jobs" PROFILE_TASK="$task" &&
        { [ "$bolt" != all ] || bolt_all; } && install_root
} >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "building $name failed; the log is $log"; }
for py in "$cache/roots/$name"/usr/bin/python3.*[0-9]; do
    echo "$name	$(chroot "$cache/roots/$name" "/usr/bin/${py##*/}" -VV | tr '\n' ' ')"
done
