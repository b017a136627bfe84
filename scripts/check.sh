#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Runs test suites one after another and adds up what they report; `make check` calls it.
#
#   scripts/check.sh SUITE...      each SUITE is a target of the Makefile
#
# A suite with a + behind its name runs beside those that follow, in what they leave of the processors;
# what it printed comes last.
# A suite's totals are the last line that it prints of the form "N passed, N failed[, N skipped]". A
# suite without such a line, or one that fails without a failed test, counts as one failed test.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

passed=0 failed=0 skipped=0
logs=$(mktemp -d)
beside=()
trap 'rm -rf "$logs"' EXIT
trap interrupted INT TERM

# A suite beside the others leads a process group of its own, which no interrupt of the terminal reaches.
interrupted() {
    local pid
    for pid in ${beside[@]+"${beside[@]}"}; do kill -- "-$pid" 2>/dev/null; done
    exit 130
}

# run SUITE: its exit status is left in logs/SUITE.code
run() {
    local began=$SECONDS
    "${MAKE:-make}" --no-print-directory -j"$(nproc)" "$1"
    echo "$? $((SECONDS - began))" >"$logs/$1.code"
}

# count SUITE
count() {
    local code=1 took=0 line p=0 f=0 s=0
    read -r code took <"$logs/$1.code"
    line=$(grep -oE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?' "$logs/$1" | tail -n 1)
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
        p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[4]:-0}
    else
        echo "$1: it printed no totals"
        f=1
    fi
    if [ "$code" != 0 ] && [ "$f" = 0 ]; then
        echo "$1: ended with $code"
        f=1
    fi
    echo "== $1: $p passed, $f failed, $s skipped, $took s"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# again SUITE: what it said of failed and skipped tests, from a failed one's text the first lines
again() {
    awk '/^(FAIL|FAILED|SKIP|skipped|SUMMARY:) |^\[  (FAILED|SKIPPED) * \] [^0-9]/ { left = 15 }
         left && (left == 15 || /^ /) { left--; print substr($0, 1, 300); next }
         { left = 0 }' "$logs/$1"
}

later=()
for suite; do
    if [[ $suite = *+ ]]; then
        suite=${suite%+}
        set -m
        (renice -n 10 "$BASHPID" >/dev/null; run "$suite" >"$logs/$suite" 2>&1) </dev/null &
        set +m
        beside+=("$!") later+=("$suite")
        continue
    fi
    echo "== $suite"
    run "$suite" 2>&1 | tee "$logs/$suite"
    count "$suite"
done
for i in ${later[@]+"${!later[@]}"}; do
    wait "${beside[i]}"
    echo "== ${later[i]}"
    cat "$logs/${later[i]}"
    count "${later[i]}"
done
# Whoever sees the end of a long log only is to see what there is to do.
if [ $((failed + skipped)) != 0 ]; then
    echo "== failed and skipped"
    for suite; do again "${suite%+}"; done
fi
total="$passed passed, $failed failed"
[ "$skipped" = 0 ] || total="$total, $skipped skipped"
echo "$total"
[ "$failed" = 0 ]
