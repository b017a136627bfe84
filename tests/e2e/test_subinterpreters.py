# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Code in sub-interpreters, on the main thread below Python frames and in threads: each call is there
once, under the function that made it. A frame of another interpreter below it on the same thread is
cut there, and says so."""
from harness import interpreters, process, trace
from harness.runner import each

COUNT = 200  # calls of each leaf() in each run of it (programs/subinterpreters.py)


@each(minor=["3.8", "3.12", "3.13", "3.14", "3.15"])
def test_calls(t, minor):
    interp = interpreters.one(minor)
    target = process.Target(interp, "subinterpreters",
                            command=process.script(interp, "subinterpreters.py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    t.equal(target.popen.wait(60), 0, "exit status")
    t.has(tracer.expect(0), "nothing lost")
    got = trace.load(t.path("trace.json"))
    counts = got.counts()
    for name in ("main", "thread0", "thread1"):
        t.equal(counts.get("leaf_" + name), 2 * COUNT, "calls of leaf_%s()" % name)
        works = got.named("work_" + name)
        t.equal([[c.name for c in w.children] for w in works], 2 * [COUNT * ["leaf_" + name]],
                "what work_%s() called" % name)
    t.equal(counts.get("between"), 10, "calls of between()")
    whole = [s for s in got.named("inside") if not {"begin lost", "end lost"} & set(s.args)]
    cut = len(got.named("inside")) - len(whole)
    t.check(cut or len(whole) == 3, "inside() is neither whole nor marked: %d", len(whole))
    print("%d slices of inside() are cut" % cut)
