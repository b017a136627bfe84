#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# From a fresh machine to all tests: installs what they need, makes the Debian roots whose
# interpreters they trace, builds, and runs `make check`.
#
#   sudo scripts/test.sh
#
# The last line is "N passed, N failed", with ", N skipped" where something could not run; each
# skipped test says why.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "test.sh: the tests attach probes and make chroots: run 'sudo scripts/test.sh'" >&2; exit 3; }
export DEBIAN_FRONTEND=noninteractive
scripts/setup.sh test
make -s -j"$(nproc)" & # while the roots are fetched
build=$!
echo "interpreters in Debian roots (root, path, version):"
scripts/interpreters.sh
scripts/cudart.sh || echo "test.sh: without CUDA 11 and 12, tests of them are skipped" >&2
wait "$build"
exec make -s check
