#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Runs fuzz targets: run.sh BUILD_FOLDER NAME.. (FUZZ_SECONDS each, one per CPU at a time). A crash
# leaves its input in the build folder; copy it to tests/fuzz/corpus/NAME once it is fixed. The seed
# is fixed, so that a test run says something about the change and can be run again; to search
# for more, give FUZZ_SEED=0 (a new seed each time) and more FUZZ_SECONDS.
set -u

build=$1
shift
seconds=${FUZZ_SECONDS:-30} seed=${FUZZ_SEED:-1}

run() {
	local name=$1 found=$build/corpus/$1 seconds=$seconds

	[ "$name" != agent ] || seconds=$(((seconds + 1) / 2)) # small, and soon known
	echo "fuzz_$name: $seconds s"
	mkdir -p "$found"
	"$build/fuzz_$name" -seed="$seed" -max_total_time="$seconds" -max_len=65536 -timeout=60 \
		-rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 -close_fd_mask=1 \
		-artifact_prefix="$build/$name-" "$found" "tests/fuzz/corpus/$name" \
		>"$build/$name.log" 2>&1
}

passed=0 failed=0
names=("$@")
at_once=$(nproc)
for ((i = 0; i < ${#names[@]}; i += at_once)); do
	pids=()
	for name in "${names[@]:i:at_once}"; do
		run "$name" &
		pids+=("$!")
	done
	for ((k = 0; k < ${#pids[@]}; k++)); do
		name=${names[i + k]}
		if wait "${pids[k]}"; then
			echo "fuzz_$name:"
			grep -h 'stat::number_of_executed_units\|stat::peak_rss_mb' "$build/$name.log"
			passed=$((passed + 1))
		else
			cat "$build/$name.log"
			grep -h '^SUMMARY\|^    #[0-9] ' "$build/$name.log"
			failed=$((failed + 1))
		fi
	done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
