#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Fetch the runtime of CUDA 12 for the end-to-end tests: libcudart12 of Debian 13 (non-free), 180 KB,
# unpacked into $PYTRACE_CACHE/cuda12 (default /var/cache/pytrace-bpf), not installed. What is there is
# used again. The mirror is the one that apt itself uses, or $PYTRACE_DEBIAN_MIRROR.
set -euo pipefail

folder=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/cuda12
compgen -G "$folder/usr/lib/*/libcudart.so.12" >/dev/null && exit 0
site=${PYTRACE_DEBIAN_MIRROR:-}
# shellcheck disable=SC2016 # apt fills in $(SITE)
[ -n "$site" ] || site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' \
    'Identifier: Packages' | grep -v security | grep -m1 -E '/debian/?$' || true)
[ -n "$site" ] || { echo "cudart12.sh: apt's configuration names no Debian mirror" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site trixie non-free" >"$work/sources"
options=(-qq -o "Dir::State::Lists=$work/lists" -o "Dir::Etc::sourcelist=$work/sources"
    -o Dir::Etc::sourceparts=/dev/null -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$work" && apt-get "${options[@]}" download libcudart12)
mkdir -p "$folder"
dpkg-deb -x "$work"/libcudart12_*.deb "$folder"
