#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Makes the seeds in tests/fuzz/corpus from the golden captures: run it after golden-update."""

import os
import struct
import subprocess
import tempfile

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


# A small ELF file with what makes an interpreter; it is none, but gets the readers going.
SMALL = """
unsigned long Py_Version = 0x030b02f0;
char _PyRuntime[64];
const char *Py_GetVersion(void) { return "3.11.2 (main)"; }
int Py_GetRecursionLimit(void) { return 1000; }
long _PyEval_EvalFrameDefault(long *ts, long *f, int x)
{
	if (--ts[3] < 0)
		return 0;
	while (*f++)
		ts[1] += x;
	ts[3]++;
	return 1;
}
"""


def make_elf():
    with tempfile.TemporaryDirectory() as folder:
        source, out = os.path.join(folder, "x.c"), os.path.join(folder, "x.so")
        with open(source, "w") as f:
            f.write(SMALL)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,noseparate-code",
                        "-o", out, source], check=True)
        subprocess.run(["strip", out], check=True)
        return read(out)


def main():
    write("finder", "small-elf", b"\0" + make_elf())
    write("finder", "change-header", b"\1" + struct.pack("<IB", 40 << 1, 1))
    write("finder", "change-code", b"\1" + struct.pack("<IBIB", 1000 << 1 | 1, 4, 20001, 255))
    for name in ("calls", "loss", "processes", "damage", "runtime", "lines", "control"):
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
