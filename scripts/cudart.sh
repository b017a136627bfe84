#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Fetch the runtimes of CUDA 11 and 12 for the end-to-end tests: libcudart11.0 of Debian 12 and
# libcudart12 of Debian 13 (non-free), 170 and 180 KB, unpacked into $PYTRACE_CACHE/cuda11 and /cuda12
# (default /var/cache/pytrace-bpf), not installed. What is there is used again. The mirror is the one
# that apt itself uses, or $PYTRACE_DEBIAN_MIRROR.
set -euo pipefail
# shellcheck source=mirror.sh
. "$(dirname "$0")/mirror.sh"

cache=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}

fetch() { # major version, package, Debian's release
    local folder=$cache/cuda$1 options mirror
    compgen -G "$folder/usr/lib/*/libcudart.so.$1*" >/dev/null && return
    mirror=$(debian_mirror)
    rm -rf "${work:?}"/*
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $3 non-free" >"$work/sources"
    options=(-qq -o "Dir::State::Lists=$work/lists" -o "Dir::Etc::sourcelist=$work/sources"
        -o Dir::Etc::sourceparts=/dev/null -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    (cd "$work" && apt-get "${options[@]}" download "$2")
    mkdir -p "$folder"
    dpkg-deb -x "$work/$2"_*.deb "$folder"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch 11 libcudart11.0 bookworm
fetch 12 libcudart12 trixie
