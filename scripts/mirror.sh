# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Sourced: where Debian's packages come from on this machine.

# Debian's mirror as apt has it, or $PYTRACE_DEBIAN_MIRROR; nothing and 1 if there is none.
debian_mirror() {
    local site=${PYTRACE_DEBIAN_MIRROR:-}
    # shellcheck disable=SC2016 # apt fills in $(SITE)
    [ -n "$site" ] || site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' \
        'Identifier: Packages' | grep -v security | grep -m1 -E '/debian/?$' || true)
    [ -n "$site" ] || {
        echo "apt's configuration names no Debian mirror. Give one in PYTRACE_DEBIAN_MIRROR" >&2
        return 1
    }
    echo "$site"
}

# What the host's apt was told about old mirrors holds in other roots too.
apt_options() { apt-config dump Acquire::Check-Valid-Until | sed -n 's/^\(Acquire[^ ]*\) "\(.*\)";$/-o \1=\2/p'; }
