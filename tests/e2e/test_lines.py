# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--lines: the line of each call within its caller."""
from harness import compare, interpreters, process, trace
from harness.runner import each

NOTED = {"here", "Thing.__init__", "Thing.prop", "Thing.__add__", "Thing.__enter__",
         "Thing.__exit__", "Thing.__iter__"}


def record(t, interp, program, *options):
    target = process.Target(interp, program)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return trace.load(t.path("trace.json")), result, target.pid


def in_order(got):
    return sorted(got.slices(), key=lambda s: s.begin)


@each(interp=interpreters.every)
def test_noted(t, interp):
    """Against the program's own notes of this very run."""
    got, result, _ = record(t, interp, "lines", "--lines")
    names = {n if interp.minor >= (3, 11) else n.rpartition(".")[2] for n in NOTED}
    calls = [s for s in in_order(got) if s.name in names and s.file.endswith("/lines.py")]
    seen = result["seen"]
    t.equal(len(calls), len(seen), "calls of here() and Thing")
    t.check(len(seen) > 80, "only %d calls", len(seen))
    for i, (call, line) in enumerate(zip(calls, seen)):
        t.equal(call.args.get("CallFrom"), line, "the line of call %d, %s" % (i, call.name))
    print("%d calls" % len(seen))


@each(interp=interpreters.every)
@each(program=["callforms", "aio"])
def test_hooks(t, interp, program):
    """Every call, against what the interpreter's frames say under its own hooks in a second run."""
    compare_lines(t, interp, program)


@each(minor=["3.8", "3.10", "3.11", "3.14"])
@each(program=["churn", "closing"])
def test_hooks_of_freed_code(t, minor, program):
    compare_lines(t, interpreters.one(minor), program)


def compare_lines(t, interp, program):
    got, _, pid = record(t, interp, program, "--lines")
    for s in got.slices():
        s.line = (s.line, s.args.get("CallFrom", 0))
    oracle = compare.Oracle(process.run_oracle(interp, program, folder=t.folder,
                                               options=["--lines"]))
    for _, events in oracle.threads:
        events[:] = [(enter, (file, tuple(line), name)) for enter, (file, line, name) in events]
    events, threads = compare.compare(oracle, got, pid)
    print("%d enters and exits, %d threads" % (events, threads))


@each(minor=["3.9", "3.11", "3.13", "3.15"])
@each(options=["--no-uprobe-multi --no-cookie --no-task-storage"])
def test_fallback(t, minor, options):
    got, result, _ = record(t, interpreters.one(minor), "lines", "--lines", *options.split())
    calls = [s.args.get("CallFrom") for s in in_order(got)
             if s.name == "here" and s.file.endswith("/lines.py")]
    t.check(len(calls) > 80, "only %d calls", len(calls))
    left = iter(result["seen"])
    t.check(all(line in left for line in calls), "lines that the program did not note")


@each(minor=["3.10", "3.12"])
def test_by_way_of_a_capture(t, minor):
    """Lines are in the capture; and those of callers that are left out are not given."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "lines")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.ptcap"), "--lines")
    tracer.recording()
    target.go()
    seen = target.done()["seen"]
    tracer.expect(0, stop=True)
    target.finish()
    process.run_tool("replay", t.path("trace.ptcap"), "-o", t.path("all.json"))
    calls = [s.args.get("CallFrom") for s in in_order(trace.load(t.path("all.json")))
             if s.name == "here"]
    left = iter(seen)
    t.check(len(calls) > 80 and all(line in left for line in calls), "lines differ: %s", calls)
    process.run_tool("replay", t.path("trace.ptcap"), "-o", t.path("some.json"), "--exclude-file",
                     "<far apart>")
    part = [s.args.get("CallFrom") for s in in_order(trace.load(t.path("some.json")))
            if s.name == "here"]
    t.equal(len(part), len(calls), "calls")
    t.check(None in part, "lines of callers that are not in the trace")
    t.check(all(p in (None, c) for p, c in zip(part, calls)), "lines differ")


def test_off(t):
    """Without the option there is nothing of it, in the trace or in the capture."""
    got, _, _ = record(t, interpreters.one(), "lines")
    t.equal([s for s in got.slices() if "CallFrom" in s.args], [], "slices with a line")
