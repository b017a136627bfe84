#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# From a fresh machine to a trace: installs what the build needs, builds, traces examples/weblog.py
# into trace.json.gz, and prints where the time went.
#
#   sudo scripts/demo.sh [COMMAND ARGS...]     another Python program instead
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "demo.sh: tracing needs root: run 'sudo scripts/demo.sh'" >&2; exit 3; }
scripts/setup.sh build
make -s -j"$(nproc)"
[ $# -gt 0 ] || set -- /usr/bin/python3 examples/weblog.py
build/pytrace-bpf -o trace.json.gz -- "$@"
echo
build/pytrace-bpf report trace.json.gz --top 12
echo
echo "The trace is trace.json.gz: open it at https://ui.perfetto.dev or https://www.speedscope.app"
