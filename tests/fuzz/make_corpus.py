#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Makes the seeds in tests/fuzz/corpus from the golden captures: run it after golden-update."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden")
HEADER, CHUNK = 312, 24  # struct pt_capture_header, struct pt_capture_chunk


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def main():
    for name in ("calls", "loss", "processes", "damage"):
        capture = read(os.path.join(GOLDEN, name + ".ptcap"))
        records = capture[HEADER + CHUNK:-CHUNK]
        write("capture", name, capture)
        # fuzz_capture.c's own form: flags, length, data
        write("capture", name + "-chunks",
              bytes([0]) + len(records).to_bytes(2, "little") + records + bytes([2, 0, 0]))
        write("records", name, records)
        write("trace", name, read(os.path.join(GOLDEN, name + ".json")))


if __name__ == "__main__":
    main()
