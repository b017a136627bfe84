#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Holds the order of the stages: a file in user/STAGE includes only its own stage, include/, and
# stages before it (docs/DESIGN.md, "The flow"); bpf/ includes nothing of user/, include/ nothing
# but itself. Prints each line that breaks this.
set -euo pipefail
cd "$(dirname "$0")/.."

stages="base target python cuda probe ingest model sink flight record agent app"
failed=0

# allowed STAGE: that stage and those before it
allowed() {
    local stage
    for stage in $stages; do
        echo "$stage"
        [ "$stage" = "$1" ] && return 0
    done
    echo "check-includes.sh: user/$1 is no known stage" >&2
    return 1
}

complain() {
    echo "$1"
    failed=1
}

for folder in user/*/; do
    stage=$(basename "$folder")
    pattern=$(allowed "$stage" | paste -sd '|') || { failed=1; continue; }
    while IFS= read -r line; do
        complain "$line: user/$stage may not include this"
    done < <(grep -nE '^#include "[a-z]+/' "$folder"*.[ch] /dev/null |
             grep -vE "#include \"($pattern)/" || true)
done
while IFS= read -r line; do
    complain "$line: bpf/ and include/ may not include user/"
done < <(grep -nE "^#include \"($(echo "$stages" | tr ' ' '|'))/" bpf/*.[ch] include/*.h /dev/null || true)
[ "$failed" = 0 ] && echo "check-includes.sh: the order of the stages holds"
exit "$failed"
