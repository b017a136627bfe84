#!/bin/bash
# Fetch the interpreters that the end-to-end tests trace, as small Debian roots made by debootstrap.
#
#   scripts/interpreters.sh            make what is missing, print one line per interpreter
#   scripts/interpreters.sh --list     print what is there, make nothing
#
# One root per suite under $PYTRACE_CACHE (default /var/cache/pytrace-bpf/roots). A root is used
# again as long as its stamp file names the wanted packages. "sid" moves, so the versions found are
# printed and recorded in the stamp. The mirror is the one apt itself uses.
set -euo pipefail

cache=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/roots
# suite | packages beside the minimal root
suites=(
    "bullseye|python3"
    "trixie|python3"
    "forky|python3"
    "sid|python3.13,python3.14,python3.15,python3.14-dbg"
)

die() { echo "interpreters.sh: $*" >&2; exit 1; }

mirror() {
    local site
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Identifier: Packages' |
           grep -v security | grep -m1 -E '/debian/?$' || true)
    [ -n "$site" ] || die "cannot find the Debian mirror in apt's configuration; is this Debian?"
    echo "$site"
}

# Every python3.N that a root holds, with its full version.
versions() {
    local root=$1 py
    for py in "$root"/usr/bin/python3.*; do
        [[ $py =~ python3\.[0-9]+d?$ && -x $py && ! -L $py ]] || continue
        printf '%s\t%s\t%s\n' "$(basename "$root")" "${py#"$root"}" \
            "$(chroot "$root" "${py#"$root"}" -c 'import platform; print(platform.python_version())')"
    done
}

make_root() {
    local suite=$1 packages=$2 root=$cache/$1 script=sid
    [ "$(cat "$root/.stamp" 2>/dev/null)" = "$packages" ] && return 0
    [ -e "/usr/share/debootstrap/scripts/$suite" ] && script=$suite
    rm -rf "$root" "$root.tmp"
    mkdir -p "$cache"
    echo "interpreters.sh: debootstrap $suite ($packages)" >&2
    if ! debootstrap --variant=minbase --include="$packages" "$suite" "$root.tmp" "$(mirror)" \
        "/usr/share/debootstrap/scripts/$script" >"$cache/$suite.log" 2>&1; then
        tail -n 5 "$cache/$suite.log" >&2
        die "debootstrap $suite failed; the log is $cache/$suite.log"
    fi
    rm -rf "$root.tmp/var/cache/apt" "$root.tmp/var/lib/apt/lists"
    echo "$packages" >"$root.tmp/.stamp"
    mv "$root.tmp" "$root"
}

[ "$(id -u)" = 0 ] || die "must run as root (debootstrap and chroot need it)"
for row in "${suites[@]}"; do
    suite=${row%%|*}
    [ "${1:-}" = --list ] || make_root "$suite" "${row#*|}"
    [ -e "$cache/$suite/.stamp" ] && versions "$cache/$suite"
done
