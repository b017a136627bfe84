# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Exactness: every enter and exit that CPython's own hooks report is in the trace, in order, and
nothing else is; attached and launched, on every interpreter."""
import os

from harness import compare, interpreters, process, trace
from harness.runner import each, limit

PROGRAMS = ["callforms", "threads", "aio", "churn", "limit", "closing", "unicode_names"]
# Above these frames of drive.py a program's workload() stands.
OUTER = ["<module>", "main"]


def check_own_counts(t, got, result):
    """limit.py counts its calls itself."""
    if not result or "endless" not in result:
        return
    counts = {}
    for s in got.slices():
        if s.file.endswith("/limit.py"):
            counts[s.name] = counts.get(s.name, 0) + 1
    qualified = any("." in name for name in counts)
    for name, count in result.items():
        short = name if qualified else name.rpartition(".")[2]
        t.equal(counts.get(short, 0), count, "slices of " + name)


def compared(t, interp, program, got, result, pid):
    oracle = compare.Oracle(process.run_oracle(interp, program, folder=t.folder))
    events, threads = compare.compare(oracle, got, pid)
    check_own_counts(t, got, result)
    print("%d enters and exits, %d threads" % (events, threads))


@each(interp=interpreters.every)
@each(program=PROGRAMS)
def test_attach(t, interp, program):
    target = process.Target(interp, program)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    target.finish()
    got = trace.load(t.path("trace.json"))
    t.equal(set(got.processes), {target.pid}, "processes in the trace")
    check_outer(t, got, target.pid)
    compared(t, interp, program, got, result, target.pid)


def check_outer(t, got, pid):
    """The frames that were open at the attach stand around workload(), from the trace's start."""
    roots = got.threads[(pid, pid)]
    t.equal([r.name for r in roots], OUTER[:1], "outermost slices of the main thread")
    t.check("main" in [c.name for c in roots[0].children], "main() is not below <module>")
    t.equal(roots[0].args.get("open at start"), True, "mark of the outermost slice")
    begin = min(s.begin for s in got.slices())
    t.equal(roots[0].begin, begin, "begin of the frame that was open at the attach")


@each(interp=interpreters.every)
@each(program=["callforms", "threads", "aio", "limit"])
def test_launch(t, interp, program):
    command = process.drive_command(interp, program, options=("--go", "--exit"))
    out, _ = process.run_tool("-o", t.path("trace.json"), "--", *command, c_default=True)
    done = [line for line in out.splitlines() if line.startswith("done")]
    t.equal(len(done), 1, "lines 'done' on the command's stdout")
    got = trace.load(t.path("trace.json"))
    t.equal(len(got.processes), 1, "processes in the trace")
    pid, = got.processes
    # From its first call: the interpreter's own start is there too.
    frozen = [s for s in got.slices() if s.file.startswith("<frozen importlib")]
    t.check(len(frozen) > 50, "only %d slices of importlib: the start is missing", len(frozen))
    compared(t, interp, program, got, process.json.loads(done[0].partition(" ")[2]), pid)


@each(engine=["usdt", "frame"])
@each(interp=lambda: [i for i in interpreters.every() if i.name.startswith("bullseye")])
def test_engine(t, interp, engine):
    """Where both engines are exact, both are tested."""
    target = process.Target(interp, "callforms")
    tracer = process.Tracer("-p", target.pid, "--engine", engine, "-o", t.path("trace.json"), c_default=True)
    t.has(tracer.recording(), engine)
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    target.finish()
    compared(t, interp, "callforms", trace.load(t.path("trace.json")), result, target.pid)


FALLBACKS = [["--no-uprobe-multi"], ["--no-cookie"], ["--no-task-storage"],
             ["--no-uprobe-multi", "--no-cookie", "--no-task-storage"]]


@each(minor=["3.9", "3.11", "3.13"])
@each(options=[" ".join(x) for x in FALLBACKS])
@each(program=["callforms", "threads"])
def test_fallback(t, minor, options, program):
    """What older kernels lack, switched off here: the same calls are recorded."""
    interp = interpreters.one(minor)
    target = process.Target(interp, program)
    tracer = process.Tracer("-p", target.pid, *options.split(), "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    target.finish()
    compared(t, interp, program, trace.load(t.path("trace.json")), result, target.pid)


@limit(240)
@each(minor=["3.10", "3.12"])
def test_many_rounds(t, minor):
    """Millions of events, seven threads: nothing is lost, every call is there."""
    interp = interpreters.one(minor)
    rounds = "400"
    target = process.Target(interp, "threads", rounds)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    target.go()
    target.done(limit_s=120)
    tracer.expect(0, stop=True)
    target.finish()
    got = trace.load(t.path("trace.json.gz"))
    oracle = compare.Oracle(process.run_oracle(interp, "threads", rounds, folder=t.folder))
    events, threads = compare.compare(oracle, got, target.pid)
    print("%d enters and exits, %d threads" % (events, threads))


@each(minor=["3.9", "3.11", "3.13"])
def test_deleted_interpreter(t, minor):
    """A package upgrade replaced the file that a process runs."""
    interp = interpreters.one(minor)
    copy = process.Copy(interp)
    target = process.Target(interp, "callforms", command=copy.drive("callforms"),
                            env=copy.env())
    os.unlink(copy.mapped)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    target.finish()
    compared(t, interp, "callforms", trace.load(t.path("trace.json")), result, target.pid)
