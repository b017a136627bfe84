# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Compares a trace with what CPython's own hooks reported in a second run of the same program.

Both become, per thread, the ordered sequence of (enter, function) and (exit, function) of the window
that matters: on the main thread everything within workload(), on other threads everything within
Thread.run(). Threads are matched by their sequences, since tids differ from run to run.

What is left out on both sides, and why:
  - what lies below a function of threading.py or queue.py: whether a lock is free at once, or an
    item there, is not deterministic;
  - what lies below at_limit(): see programs/limit.py;
  - __del__ and what lies below it, up to 3.10: before its callback sys.setprofile copies the
    frame's locals into a dict (PyFrame_FastToLocals), which keeps them alive until the next
    callback drops them, and calls made then are not reported;
  - the modules _weakrefset.py and weakref.py up to 3.10, for the same reason.
Files longer than NAME_CHARS are compared up to there (BPF stores 1024 bytes), and what UTF-8 cannot
hold counts as U+FFFD.
"""
import json
import re


NAME_CHARS = 200


class Mismatch(AssertionError):
    pass


class Oracle:
    def __init__(self, path):
        with open(path) as file:
            document = json.load(file)
        self.version = tuple(int(x) for x in re.findall(r"\d+", document["version"])[:2])
        codes = [normal(*code) for code in document["codes"]]
        self.threads = []
        for thread in document["threads"]:
            events = [(e & 1, codes[e >> 1]) for e in thread["events"]]
            self.threads.append((thread["tid"] == document["main"], events))


def normal(file, line, name):
    return re.sub("[\ud800-\udfff]", "\ufffd", file)[:NAME_CHARS], line, name


def trace_events(roots):
    """The enters and exits of Python functions, in order; C functions are passed over."""
    events = []
    stack = [iter(roots)]
    opened = []
    while stack:
        s = next(stack[-1], None)
        if s is not None and s.is_c:
            stack.append(iter(s.children))
            opened.append(None)
            continue
        if s is not None:
            key = normal(*s.key)
            events.append((1, key))
            opened.append(key)
            stack.append(iter(s.children))
            continue
        stack.pop()
        key = opened.pop() if opened else None
        if key:
            events.append((0, key))
    return events


def window(events, is_root):
    """The part from the first enter that is_root() to its exit; None if there is none."""
    depth = 0
    begin = None
    for i, (enter, key) in enumerate(events):
        if begin is None:
            if not (enter and is_root(key)):
                continue
            begin = i
        depth += 1 if enter else -1
        if depth == 0:
            return events[begin:i + 1]
    return events[begin:] if begin is not None else None


def is_thread_root(key):
    return key[0].endswith("threading.py") and key[2] in ("Thread.run", "run")


def is_workload(key):
    return key[2] == "workload"


def left_out(key, version):
    """-1 keep; 0 leave out what lies below; 1 leave out the call itself too."""
    file, _, name = key
    last = name.rpartition(".")[2]
    if version <= (3, 10) and (last == "__del__" or file.endswith("weakrefset.py") or
                               file.endswith("/weakref.py")):
        return 1
    if last == "at_limit" or file.endswith("/queue.py") or (
            file.endswith("/threading.py") and last != "run"):
        return 0
    return -1


def prune(events, version):
    result = []
    depth = hidden = 0  # hidden: the depth from which on events are left out, 0 none
    keep_own = False
    for enter, key in events:
        if enter:
            depth += 1
            if hidden:
                continue
            what = left_out(key, version)
            if what >= 0:
                hidden, keep_own = depth, what == 0
            if what <= 0:
                result.append((1, key))
        else:
            if not hidden:
                result.append((0, key))
            elif hidden == depth:
                hidden = 0
                if keep_own:
                    result.append((0, key))
            depth -= 1
    return result


def threads_of_oracle(oracle):
    return _threads(oracle.threads, oracle.version)


def threads_of_trace(trace, pid, version):
    threads = []
    for roots in trace.of_pid(pid).values():
        events = trace_events(roots)
        threads.append((any(key[2] == "workload" for _, key in events), events))
    return _threads(threads, version)


def _threads(threads, version):
    main, others = None, []
    for is_main, events in threads:
        part = window(events, is_workload if is_main else is_thread_root)
        if part is None:
            continue
        part = prune(part, version)
        if is_main:
            main = part
        else:
            others.append(part)
    return main, sorted(others)


def show(event):
    if event is None:
        return "the end"
    enter, (file, line, name) = event
    return "%s %s (%s:%s)" % ("enter" if enter else "exit ", name, file, line)


def difference(expected, got, title):
    for i in range(max(len(expected), len(got))):
        e = expected[i] if i < len(expected) else None
        g = got[i] if i < len(got) else None
        if e != g:
            break
    depth = sum(1 if enter else -1 for enter, _ in expected[:i])
    lines = ["%s: event %d of %d (trace: %d), depth %d" % (
        title, i, len(expected), len(got), depth)]
    lines += ["      " + show(event) for event in expected[max(0, i - 6):i]]
    for j in range(i, i + 5):
        lines.append("  oracle  %-60s  trace  %s" % (
            show(expected[j]) if j < len(expected) else "-", show(got[j]) if j < len(got) else "-"))
    missing = {}
    for events, sign in ((expected, 1), (got, -1)):
        for enter, key in events:
            missing[key] = missing.get(key, 0) + (sign if enter else 0)
    counts = sorted(((n, key) for key, n in missing.items() if n), key=lambda x: -abs(x[0]))
    for n, key in counts[:12]:
        lines.append("  %+d calls in the oracle of %s (%s:%s)" % (n, key[2], key[0], key[1]))
    return "\n".join(lines)


def compare(oracle, trace, pid):
    """Raises Mismatch with the first difference; returns (enters + exits, threads) compared."""
    main, others = threads_of_oracle(oracle)
    got_main, got_others = threads_of_trace(trace, pid, oracle.version)
    if not main or len(main) < 4:
        raise Mismatch("the oracle saw no workload()")
    if got_main is None:
        raise Mismatch("the trace has no workload()")
    if main != got_main:
        raise Mismatch(difference(main, got_main, "main thread"))
    if others != got_others:
        if len(others) != len(got_others):
            raise Mismatch("%d threads beside the main one, %d in the trace" % (
                len(others), len(got_others)))
        for i, (expected, got) in enumerate(zip(others, got_others)):
            if expected != got:
                raise Mismatch(difference(expected, got, "thread %d" % i))
    return len(main) + sum(len(x) for x in others), 1 + len(others)
