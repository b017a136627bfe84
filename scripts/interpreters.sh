#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Fetch the interpreters that the end-to-end tests trace, as small Debian roots made by debootstrap.
#
#   scripts/interpreters.sh            make what is missing, print one line per interpreter
#   scripts/interpreters.sh --list     print what is there, make nothing
#
# One root per suite under $PYTRACE_CACHE (default /var/cache/pytrace-bpf/roots). A root is used
# again as long as its stamp file names the wanted packages. "sid" moves, so the versions found are
# printed, and a package that a suite no longer has is left out and said. The mirror is the one that
# apt itself uses, or $PYTRACE_DEBIAN_MIRROR.
set -euo pipefail
# shellcheck source=mirror.sh
. "$(dirname "$0")/mirror.sh"

cache=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/roots
# suite | packages beside the minimal root; with a "!": only what the package has in /usr/bin, without
# what it depends on (programs that need nothing else: what the agent's metrics are sent to)
suites=(
    "bullseye|python3,python3-gevent,prometheus!"
    "trixie|python3,python3-numpy,python3-gevent,python3-uvloop,python3-gunicorn,python3-celery,python3-opentelemetry-proto,victoria-metrics!"
    "forky|python3,python3-torch"
    "sid|python3.13,python3.14,python3.15,python3.14-dbg"
)

die() { echo "interpreters.sh: $*" >&2; exit 1; }
say() { echo "interpreters.sh: $*" >&2; }

# Every python3.N that a root holds, with its full version.
versions() {
    local root=$1 py
    for py in "$root"/usr/bin/python3.*; do
        [[ $py =~ python3\.[0-9]+d?$ && -x $py && ! -L $py ]] || continue
        printf '%s\t%s\t%s\n' "$(basename "$root")" "${py#"$root"}" \
            "$(chroot "$root" "${py#"$root"}" -c 'import platform; print(platform.python_version())')"
    done
}

# take_programs ROOT PACKAGE
take_programs() {
    local root=$1 package=$2
    # shellcheck disable=SC2046
    chroot "$root" sh -c 'cd /tmp && apt-get -qq "$@"' - $(apt_options) download "$package"
    dpkg --fsys-tarfile "$root"/tmp/"$package"_*.deb | tar -x -C "$root" ./usr/bin
    rm "$root"/tmp/"$package"_*.deb
}

# install_in ROOT PACKAGE...: those that the suite has.
install_in() {
    local root=$1 package there=() programs=()
    shift
    # shellcheck disable=SC2046
    chroot "$root" apt-get -qq $(apt_options) update
    for package; do
        local name=${package%!}
        # (grep -q would end before apt-cache has written all, which pipefail takes for an error)
        if chroot "$root" apt-cache policy "$name" |
            awk '/^  Candidate: [0-9]/ { found = 1 } END { exit !found }'; then
            if [ "$name" = "$package" ]; then there+=("$name"); else programs+=("$name"); fi
        else
            say "$(basename "$root" .tmp) has no $name any more; it is not tested"
        fi
    done
    [ ${#there[@]} -gt 0 ] || return 1
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 install "${there[@]}" </dev/null
    for package in "${programs[@]}"; do take_programs "$root" "$package"; done
    chroot "$root" apt-get clean
    rm -rf "$root/var/lib/apt/lists"
}

wanted() { [ "$(cat "$cache/$1/.stamp" 2>/dev/null)" = "$2" ]; }

make_root() {
    local suite=$1 packages=$2 root=$cache/$1 script=sid log=$cache/$1.log
    [ -e "/usr/share/debootstrap/scripts/$suite" ] && script=$suite
    rm -rf "$root" "$root.tmp"
    say "debootstrap $suite ($packages)"
    # The packages' names are split on purpose.
    # shellcheck disable=SC2086
    if ! debootstrap --variant=minbase "$suite" "$root.tmp" "$mirror" \
        "/usr/share/debootstrap/scripts/$script" >"$log" 2>&1 ||
        ! install_in "$root.tmp" ${packages//,/ } >>"$log"; then
        tail -n 5 "$log" >&2
        say "making the root of $suite failed; the log is $log"
        return 1
    fi
    echo "$packages" >"$root.tmp/.stamp"
    mv "$root.tmp" "$root"
}

[ "$(id -u)" = 0 ] || die "must run as root (debootstrap and chroot need it)"
if [ "${1:-}" != --list ]; then
    mkdir -p "$cache"
    # One at a time: who comes second finds what the first has made.
    exec 9>"$cache/.lock"
    flock 9
    jobs=() mirror=
    for row in "${suites[@]}"; do
        wanted "${row%%|*}" "${row#*|}" && continue
        command -v debootstrap >/dev/null || die "debootstrap is not installed. Run scripts/setup.sh test"
        [ -n "$mirror" ] || mirror=$(debian_mirror)
        make_root "${row%%|*}" "${row#*|}" &
        jobs+=($!)
    done
    failed=0
    for job in "${jobs[@]}"; do wait "$job" || failed=$((failed + 1)); done
    [ "$failed" = 0 ] || die "$failed roots are missing"
fi
for row in "${suites[@]}"; do
    [ -e "$cache/${row%%|*}/.stamp" ] && versions "$cache/${row%%|*}"
done
true
