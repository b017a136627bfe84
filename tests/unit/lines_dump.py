# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Line tables of the standard library's code objects, and what CPython itself makes of them; 3.8 to
3.15. A line a code object: version, first line, table in hex, then LINE*UNITS for all its code."""
import dis
import glob
import itertools
import os
import sys

MODULES = ("ast", "argparse", "asyncio/base_events", "asyncio/tasks", "collections/__init__",
           "contextlib", "dataclasses", "datetime", "_pydatetime", "difflib", "email/message", "enum",
           "functools", "heapq", "http/client", "inspect", "json/decoder", "locale", "os",
           "pathlib", "pickle", "_pydecimal", "random", "subprocess", "threading", "traceback",
           "typing", "unittest/mock", "zipfile", "xml/sax/saxutils", "turtle")


def codes_in(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, type(code)):
            yield from codes_in(const)


def expected(code):
    """The line of each code unit; 0: none."""
    units = len(code.co_code) // 2
    lines = [0] * units
    if sys.version_info >= (3, 10):
        for begin, end, line in code.co_lines():
            lines[begin // 2:end // 2] = [line or 0] * (end // 2 - begin // 2)
    else:
        starts = list(dis.findlinestarts(code))
        for (begin, line), (end, _) in zip(starts, starts[1:] + [(2 * units, 0)]):
            lines[begin // 2:end // 2] = [line] * (end // 2 - begin // 2)
    if sys.version_info >= (3, 11):
        assert lines == [p[0] or 0 for p in code.co_positions()]
    return lines


def text_of(lines):
    return " ".join("%d*%d" % (line, len(list(group))) for line, group in itertools.groupby(lines))


def main():
    folder = os.path.dirname(os.__file__)
    texts = []
    for name in MODULES:
        for path in glob.glob("%s/%s.py" % (folder, name)):
            with open(path, encoding="utf-8") as file:
                texts.append((file.read(), path))
    # jumps in both directions, longer than a byte; code without a line; a long table
    texts.append(("x = (1,\n" + "\n" * 700 + "f(),\n" + "2)\n" + "\n" * 200 + "f(\n" + "\n" * 130 +
                  "a)\n", "<far>"))
    texts.append(("def f():\n" + "    x = [y for y in (1, 2)]\n" * 400, "<long>"))
    texts.append(("f = lambda: 1", "<lambda>"))
    for text, path in texts:
        for code in codes_in(compile(text, path, "exec")):
            table = code.co_linetable if sys.version_info >= (3, 10) else code.co_lnotab
            print("%x %d %s- %s" % (sys.hexversion, code.co_firstlineno, table.hex(),
                                    text_of(expected(code))))


main()
