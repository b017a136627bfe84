#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Runs test suites one after another and adds up what they report; `make check` calls it.
#
#   scripts/check.sh SUITE...      each SUITE is a target of the Makefile
#
# A suite's totals are the last line that it prints of the form "N passed, N failed[, N skipped]". A
# suite without such a line, or one that fails without a failed test, counts as one failed test.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for suite; do
    echo "== $suite"
    begin=$SECONDS
    "${MAKE:-make}" --no-print-directory -j"$(nproc)" "$suite" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    line=$(grep -oE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?' "$log" | tail -n 1)
    p=0 f=0 s=0
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
        p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[4]:-0}
    else
        echo "$suite: it printed no totals"
        f=1
    fi
    if [ "$code" != 0 ] && [ "$f" = 0 ]; then
        echo "$suite: ended with $code"
        f=1
    fi
    echo "== $suite: $p passed, $f failed, $s skipped, $((SECONDS - begin)) s"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
total="$passed passed, $failed failed"
[ "$skipped" = 0 ] || total="$total, $skipped skipped"
echo "$total"
[ "$failed" = 0 ]
