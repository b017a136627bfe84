# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Sourced: apt with its own sources, lists and cache in one folder, beside the system's.
#
#   private_apt_init STATE SUITE ARCHITECTURE    make the folder, fetch the package lists
#   private_apt_get STATE ...                    apt-get there
#   private_apt_cache STATE ...                  apt-cache there
#
# The mirror, proxies and keys are the system's own.

# shellcheck source=../../scripts/mirror.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/mirror.sh"

private_apt_options() {
    local state=$1
    printf '%s\n' -o "Dir::State=$state/state" -o "Dir::State::status=$state/status" \
        -o "Dir::Cache=$state/cache" -o "Dir::Etc::sourcelist=$state/sources.list" \
        -o "Dir::Etc::sourceparts=$state/none" -o "Dir::Etc::preferencesparts=$state/none" \
        -o "APT::Architecture=$(cat "$state/arch")" -o "APT::Architectures=$(cat "$state/arch")" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Debug::NoLocking=1
}

private_apt_get() {
    local options
    mapfile -t options < <(private_apt_options "$1")
    apt-get -q "${options[@]}" "${@:2}"
}

private_apt_cache() {
    local options
    mapfile -t options < <(private_apt_options "$1")
    apt-cache "${options[@]}" "${@:2}"
}

private_apt_init() {
    local state=$1 suite=$2 arch=$3 mirror
    mirror=$(debian_mirror) || return 1
    mkdir -p "$state/none" "$state/state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    echo "$arch" >"$state/arch"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
        >"$state/sources.list"
    private_apt_get "$state" update >"$state/log" 2>&1
}
