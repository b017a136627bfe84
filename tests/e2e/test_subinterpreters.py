# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Code in sub-interpreters, on the main thread below Python frames and in threads: each call is there
once, under the function that made it, and that under the function that runs it. Only what lies below
two interpreters is cut, and says so."""
from harness import interpreters, process, trace
from harness.runner import each

COUNT = 200  # calls of each leaf() in each run of it (programs/subinterpreters.py)
NAMES = ("main", "failing", "thread0", "thread1")


def record(t, interp, *options):
    target = process.Target(interp, "subinterpreters",
                            command=process.script(interp, "subinterpreters.py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    t.equal(target.popen.wait(60), 0, "exit status")
    t.has(tracer.expect(0), "nothing lost")
    return trace.load(t.path("trace.json"))


def is_cut(s):
    return bool({"begin lost", "end lost"} & set(s.args))


def under(s, name):
    """The calls of this name in the tree below a slice, C functions and what is no call included."""
    return [c for c in s.walk() if c.name == name]


def check_runs(t, got, interp):
    """What inside() called: its two runs in the other interpreter, with between() in the middle."""
    for inside in got.named("inside"):
        t.check(not is_cut(inside), "inside() is cut")
        works = sorted((c for c in inside.walk() if c.name.startswith("work_")),
                       key=lambda w: w.begin)
        name = works[0].name[len("work_"):]
        t.equal([(w.name, [c.name for c in w.children]) for w in works],
                2 * [("work_" + name, COUNT * ["leaf_" + name])], "what ran in the interpreter")
        t.equal([w.parent.name for w in works], 2 * ["<module>"], "what called work_%s()" % name)
        runs = [s for w in works for s in under(inside, "run_any") if w.parent in list(s.walk())]
        t.equal([r.parent is inside for r in runs], [True, True], "what ran it")
        failed = name == "failing" and interp.minor < (3, 13)
        t.equal(len(under(inside, "between")), 1 + 2 * failed, "calls of between() in inside()")
        between, = [c for c in inside.children if c.name == "between"]
        t.check(runs[0].end <= between.begin and between.end <= runs[1].begin, "their order")


@each(minor=["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"])
def test_calls(t, minor):
    check(t, minor)


@each(minor=["3.9", "3.11", "3.12", "3.15"])
def test_with_others(t, minor):
    """Greenlets are looked for, and C functions are open below the other interpreter's frames."""
    check(t, minor, "--async", "--c-functions=all")


def check(t, minor, *options):
    interp = interpreters.one(minor)
    got = record(t, interp, *options)
    counts = got.counts()
    for name in NAMES:
        t.equal(counts.get("leaf_" + name), 2 * COUNT, "calls of leaf_%s()" % name)
    t.equal(counts.get("leaf_deep"), COUNT, "calls of leaf_deep()")
    t.equal(len(got.named("inside")), len(NAMES), "calls of inside()")
    check_runs(t, got, interp)
    failed = 2 if interp.minor < (3, 13) else 0
    t.equal(counts.get("between"), 12 + failed, "calls of between()")
    work, = got.named("work_deep")
    t.equal([c.name for c in work.children], COUNT * ["leaf_deep"], "what work_deep() called")
    deep = got.named("inside_deep")
    t.check(any(is_cut(s) for s in deep) or len(deep) == 1, "inside_deep() is neither whole nor marked")
    print("%d slices of inside_deep() are cut" % sum(is_cut(s) for s in deep))


@each(minor=["3.8", "3.11", "3.12", "3.15"])
def test_paused(t, minor):
    """A pause that begins in the other interpreter, and ends there or behind it. The calls outside of it
    are there, under what called them; what is open is cut, marked."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "subinterpreters_paused",
                            command=process.script(interp, "subinterpreters_paused.py"))
    control = t.path("control")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--control", control)
    tracer.recording()
    for n, command in (1, "pause"), (2, "resume"), (3, "pause"), (4, "resume"):
        target.go()
        target.out.wait("stage %d" % n, "the target")
        target.rests()
        process.run_tool("ctl", "--socket", control, command)
    target.go()
    t.equal(target.popen.wait(60), 0, "exit status")
    t.has(tracer.expect(0), "nothing lost")
    got = trace.load(t.path("trace.json"))
    t.equal([s.parent.name for s in got.named("leaf")], ["work"] * 3, "what called leaf()")
    t.equal([s.parent.name for s in got.named("after")], ["both_sides", "over_before"],
            "what called after()")
    for s in got.slices():
        below = s.parent.name if s.parent else None
        t.check(s.name != "work" or below in ("<module>", None), "%s() called work()", below)
        t.check(s.name not in ("both_sides", "over_before") or below in ("workload", None),
                "%s() called %s()", below, s.name)
