# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Runs workload() of a program beside this file; any CPython from 3.8 on.

    drive.py [--oracle FILE [--lines]] [--go] [--exit] PROGRAM

It says "ready PID", waits for a byte on stdin (not with --go), runs workload(), says "done" and the
program's own counters as JSON, waits for a byte again (not with --exit), and ends.

With --oracle the calls and returns of workload(), of every thread, are written to FILE as CPython's
own hooks report them: sys.setprofile up to 3.11, sys.monitoring from 3.12 on. With --lines as well
each call's line within its caller is added (0: no caller).
"""
import gc
import importlib
import json
import opcode
import os
import sys
import threading
import _thread

ENTER, EXIT = 1, 0
NATIVE_ID = _thread.get_native_id
# thread id -> [(ENTER or EXIT, code, line)]; the codes stay alive, so id(code) is a key
EVENTS = {}
LINES = False
OPEN = {}  # thread id -> (code, line of the call) of its open calls


def record(kind, code):
    tid = NATIVE_ID()
    events = EVENTS.get(tid)
    if events is None:
        events = EVENTS[tid] = []
    line = None
    if LINES:
        opened = OPEN.setdefault(tid, [])
        if kind == ENTER:
            # record(), the hook that called it, the function entered, its caller
            caller = sys._getframe(2).f_back
            line = caller.f_lineno if caller else 0
            # throw() passes through frames that delegate, and no hook says so
            if opened and opened[-1][0] is not caller.f_code:
                line = 0
            opened.append((code, line))
        else:
            line = opened.pop()[1] if opened else 0
    events.append((kind, code, line))


def on_profile(frame, event, arg):
    if event == "call":
        record(ENTER, frame.f_code)
    elif event == "return":
        record(EXIT, frame.f_code)


RESUME = 0  # its number, from 3.13 on
RESUME_DEPTH1 = 4 if sys.version_info < (3, 15) else 8  # RESUME_OPARG_DEPTH1_MASK, opcode_utils.h
CLOSED = {}  # thread id -> code of a generator that only the oracle makes CPython run


def on_throw(code, offset, exception):
    """Closing a suspended generator that has no try block around its yield: from 3.13 on CPython
    clears the frame without running it, unless a tool asks for PY_UNWIND (3.13.18 and later), as
    this one does. RESUME's argument tells: gen_close() in Objects/genobject.c."""
    if RESUME and type(exception) is GeneratorExit and code.co_code[offset] == RESUME and \
            code.co_code[offset + 1] & RESUME_DEPTH1:
        CLOSED[NATIVE_ID()] = code
        return
    record(ENTER, code)


def on_unwind(code, offset, exception):
    if CLOSED and CLOSED.pop(NATIVE_ID(), None) is code:
        return
    record(EXIT, code)


def oracle_start():
    global RESUME
    if sys.version_info < (3, 12):
        threading.setprofile(on_profile)
        sys.setprofile(on_profile)
        return
    mon = sys.monitoring
    tool = mon.PROFILER_ID
    mon.use_tool_id(tool, "oracle")
    if sys.version_info >= (3, 13):
        RESUME = opcode.opmap["RESUME"]
    enter = lambda code, *rest: record(ENTER, code)
    leave = lambda code, *rest: record(EXIT, code)
    mask = 0
    for event, callback in ((mon.events.PY_START, enter), (mon.events.PY_RESUME, enter),
                            (mon.events.PY_THROW, on_throw), (mon.events.PY_RETURN, leave),
                            (mon.events.PY_YIELD, leave), (mon.events.PY_UNWIND, on_unwind)):
        mon.register_callback(tool, event, callback)
        mask |= event
    mon.set_events(tool, mask)


def oracle_stop():
    if sys.version_info < (3, 12):
        sys.setprofile(None)
        threading.setprofile(None)
        return
    sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
    sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)


def oracle_write(path):
    codes, number, threads = [], {}, []
    for tid, events in EVENTS.items():
        flat = []
        for kind, code, line in events:
            n = number.get((id(code), line))
            if n is None:
                n = number[id(code), line] = len(codes)
                name = getattr(code, "co_qualname", code.co_name)
                first = code.co_firstlineno
                codes.append([code.co_filename, first if line is None else [first, line], name])
            flat.append(n << 1 | kind)
        threads.append({"tid": tid, "events": flat})
    with open(path, "w") as out:
        json.dump({"version": sys.version.split()[0], "codes": codes, "threads": threads,
                   "main": NATIVE_ID()}, out)


def say(text):
    os.write(1, (text + "\n").encode())


def main(argv):
    global LINES
    oracle = None
    go = leave = False
    while argv and argv[0].startswith("--"):
        option = argv.pop(0)
        if option == "--oracle":
            oracle = argv.pop(0)
        LINES = LINES or option == "--lines"
        go = go or option == "--go"
        leave = leave or option == "--exit"
    program = importlib.import_module(argv[0])
    # The collector runs when the number of allocations says so, and the oracle allocates too.
    gc.collect()
    gc.disable()
    say("ready %d" % os.getpid())
    if not go:
        os.read(0, 1)
    if oracle:
        oracle_start()
    result = program.workload(*argv[1:])
    if oracle:
        oracle_stop()
        oracle_write(oracle)
    say("done " + json.dumps(result))
    if not leave:
        os.read(0, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
