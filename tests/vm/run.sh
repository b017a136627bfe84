#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# The kernel matrix: the attach-and-compare test in Debian's kernels under qemu, without KVM.
#
#   tests/vm/run.sh TOOL BUILD [SUITE ...]
#
# Needs root (the interpreters' roots are entered with chroot), what `scripts/setup.sh
# all` installs, and the roots that scripts/interpreters.sh makes. One line per test; the consoles are kept in
# BUILD/vm/SUITE.log. As many guests at a time as there are processors. VM_ALL=1 tests every interpreter on every kernel instead of two or three.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tool=$(realpath "$1") build=$(realpath -m "$2")
shift 2
# The longest first. Suite of the kernel | processor | interpreters, of which "host" is this machine's own. The guest has
# one plain processor, for qemu 7.2's sake: with two it loses races with the kernel's patching of its
# own text, and an interrupt during cmpxchg16b pushes wrong flags, of which 6.12 died in 5 boots of
# 12. Kernels up to 6.12 can do without that instruction; 7.2 has no task storage then.
matrix=(
    "sid|qemu64|host sid:/usr/bin/python3.14 sid:/usr/bin/python3.15"
    "bullseye|qemu64,-cx16|bullseye:/usr/bin/python3.9 host"
    "bookworm|qemu64,-cx16|host trixie:/usr/bin/python3.13"
    "trixie|qemu64,-cx16|host trixie:/usr/bin/python3.13"
)
every="host bullseye:/usr/bin/python3.9 trixie:/usr/bin/python3.13 sid:/usr/bin/python3.13
    sid:/usr/bin/python3.14 sid:/usr/bin/python3.15"
# no_timer_check (below): on a busy host a guest does not see its timer tick in the 10 ms that it waits for it at
# the start, and gives up.
guest_limit_s=${VM_TIMEOUT:-2400}
roots=${PYTRACE_CACHE:-/var/cache/pytrace-bpf}/roots
passed=0 failed=0 skipped=0

die() { echo "vm: $*" >&2; exit 1; }

# result VERDICT WHERE TEST DETAIL
result() {
    case $1 in
    PASS) passed=$((passed + 1)) ;;
    FAIL) failed=$((failed + 1)) ;;
    SKIP) skipped=$((skipped + 1)) ;;
    *) die "bad verdict '$1'" ;;
    esac
    printf '%-4s  %-32s %s%s\n' "$1" "$2" "$3" "${4:+: $4}"
}

# The machine's own interpreter; the comparison runs on it, so it must not be older than 3.8.
host_python() {
    local path
    path=$(realpath /usr/bin/python3)
    [ -x "$path" ] || die "/usr/bin/python3 is missing"
    echo "$path"
}

# present INTERPRETER
present() {
    [[ $1 = host:* ]] || [ -x "$roots/${1%%:*}${1#*:}" ]
}

# run_guest SUITE RELEASE KERNEL PROCESSOR INTERPRETERS
run_guest() {
    local suite=$1 release=$2 kernel=$3 cpu=$4 interpreter list=() verdict name detail began count=0
    local dir=$build/vm/$suite log=$build/vm/$suite.log
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$here/init" "$here/guest.py" "$dir/"
    cp -r "$here/../e2e" "$dir/e2e"
    host_python >"$dir/python"
    for interpreter in $5; do
        [ "$interpreter" = host ] && interpreter=host:$(host_python)
        if present "$interpreter"; then
            list+=("$interpreter")
        else
            result SKIP "$release" "$interpreter" "not there; scripts/interpreters.sh makes it"
        fi
    done
    [[ " ${list[*]} " = *" host:"* ]] || list=("host:$(host_python)" "${list[@]}")
    printf '%s\n' "${list[@]}" >"$dir/interpreters"
    "$here/image.sh" "$build/vm/$suite.cpio" "$tool" "$dir" "${list[@]}"
    began=$SECONDS
    timeout "$guest_limit_s" qemu-system-x86_64 -M q35 -m 1024 -smp 1 -accel tcg -cpu "$cpu" \
        -display none -nodefaults -serial stdio -no-reboot -kernel "$kernel" \
        -initrd "$build/vm/$suite.cpio" -append "console=ttyS0 quiet panic=-1 nokaslr no_timer_check" \
        </dev/null >"$log" 2>&1 || true
    rm -rf "$build/vm/$suite.cpio" "$dir"
    while IFS=$'\t' read -r _ verdict name detail; do
        result "$verdict" "$release" "$name" "$detail"
        count=$((count + 1))
    done < <(tr -d '\r' <"$log" | grep -a '^vm-result' || true)
    if ! grep -aqE "^vm-end $count\b" "$log"; then
        result FAIL "$release" "guest" "did not come to its end; the console is $log"
        tail -n 25 "$log"
    fi
    echo "      $release: $((SECONDS - began)) s"
}

[ "$(id -u)" = 0 ] || die "must run as root"
for program in qemu-system-x86_64 busybox cpio; do
    command -v $program >/dev/null || die "$program is missing; scripts/setup.sh installs it"
done
# The guests, each in a process of its own that writes what it finds into a file.
mkdir -p "$build/vm"
outputs=()
for row in "${matrix[@]}"; do
    IFS='|' read -r suite cpu interpreters <<<"$row"
    [ $# = 0 ] || [[ " $* " = *" $suite "* ]] || continue
    [ -z "${VM_ALL:-}" ] || interpreters=$every
    outputs+=("$build/vm/$suite.out")
    if line=$("$here/kernels.sh" "$suite"); then
        IFS=$'\t' read -r _ release kernel <<<"$line"
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
        run_guest "$suite" "$release" "$kernel" "$cpu" "$interpreters" >"$build/vm/$suite.out" 2>&1 &
    else
        { result SKIP "$suite's kernel" "all" "cannot be fetched"; echo "      $suite: not run"; } \
            >"$build/vm/$suite.out"
    fi
done
wait
for output in "${outputs[@]}"; do
    cat "$output"
    # Its last line is that of the time; what broke off before that is a failure as well.
    grep -q '^      ' "$output" || result FAIL "$output" "guest" "it did not come to its end"
    passed=$((passed + $(grep -c '^PASS  ' "$output" || true)))
    failed=$((failed + $(grep -c '^FAIL  ' "$output" || true)))
    skipped=$((skipped + $(grep -c '^SKIP  ' "$output" || true)))
done
if [ $# = 0 ] || [[ " $* " = *" arm64 "* ]]; then
    while IFS=$'\t' read -r verdict where name detail; do
        result "$verdict" "$where" "$name" "$detail"
    done < <("$here/arm64.sh" "$build")
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
