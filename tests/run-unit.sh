#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Runs the unit test programs given, prints what fails, and ends with a line of totals.
set -u

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
	"$program" >"$log" 2>&1
	status=$?
	p=$(grep -c '^\[       OK \]' "$log")
	# cmocka lists what failed or was skipped a second time, in its summary
	f=$(grep '^\[  FAILED  \] [^0-9]' "$log" | sort -u | wc -l)
	s=$(grep '^\[  SKIPPED \] [^0-9]' "$log" | sort -u | wc -l)
	# a crash, or a program that ran no test, is a failure too
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ] || [ $((p + f + s)) -eq 0 ]; then
		f=$((f + 1))
	fi
	echo "$(basename "$program"): $p passed, $f failed, $s skipped"
	if [ "$f" -ne 0 ]; then
		cat "$log"
	elif [ "$s" -ne 0 ]; then
		grep '^\[  SKIPPED \] [^0-9]' "$log" | sort -u
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
