#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Runs fuzz targets: run.sh BUILD_FOLDER NAME.. (FUZZ_SECONDS each). A crash leaves its input in
# the build folder; copy it to tests/fuzz/corpus/NAME once it is fixed.
set -u

build=$1
shift
passed=0 failed=0
for name in "$@"; do
	found=$build/corpus/$name
	mkdir -p "$found"
	echo "fuzz_$name: ${FUZZ_SECONDS:-60} s"
	if "$build/fuzz_$name" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=65536 -timeout=60 \
		-rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 -close_fd_mask=1 \
		-artifact_prefix="$build/$name-" "$found" "tests/fuzz/corpus/$name" \
		>"$build/$name.log" 2>&1; then
		grep -h 'stat::number_of_executed_units\|stat::peak_rss_mb' "$build/$name.log"
		passed=$((passed + 1))
	else
		cat "$build/$name.log"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
