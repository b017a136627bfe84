# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Loss: a buffer that is much too small. What is lost is counted, the trace stays balanced, and the
stacks heal."""
import os
import signal

from harness import interpreters, process, trace
from harness.runner import each

CALLS = 200000


def lost_total(got):
    """The total that the trace states at its end."""
    return got.document["pytrace-bpf summary"]["lost events"]


@each(minor=["3.8", "3.10", "3.11", "3.12", "3.13"])
def test_tiny_buffer(t, minor):
    """The tracer is stopped while the target makes many more calls than fit; then it goes on."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "calls",
                            command=process.script(interp, "calls.py", str(CALLS)))
    tracer = process.Tracer("-p", target.pid, "--buffer", "64K", "-o", t.path("trace.json.gz"),
                            "--control", t.path("socket"))
    tracer.recording()
    tracer.popen.send_signal(signal.SIGSTOP)
    target.send(b"x")
    target.out.wait("first", "the target", limit_s=100)
    tracer.popen.send_signal(signal.SIGCONT)
    process.drained(t.path("socket"))
    target.send(b"x")
    target.out.wait("second", "the target")
    text = tracer.expect(6, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    t.has(text, "lost")
    got = trace.load(t.path("trace.json.gz"))
    lost = lost_total(got)
    counts = got.counts()
    missing = CALLS - counts.get("leaf", 0)
    t.check(missing > CALLS / 2, "only %d calls are missing", missing)
    # A call is an enter and an exit; at the edges of each gap one half may be there.
    losses = [e for e in got.events if e["ph"] == "i" and e["name"] == "events lost"]
    t.equal(sum(e["args"]["events"] for e in losses), lost, "events lost, by the instants")
    t.check(abs(2 * missing - lost) <= 2 * len(losses) + 4,
            "%d calls are missing, but %d events lost, in %d gaps", missing, lost, len(losses))
    healed, = got.named("healed")
    t.equal([c.name for c in healed.children], ["deep"] + ["after"] * 100, "calls of healed()")
    depth = sum(1 for s in healed.children[0].walk())
    t.equal(depth, 80, "calls of deep()")
    loop, = got.named("loop")
    t.check(loop.end < healed.begin, "loop() lasts into healed()")
    print("%d events lost in %d gaps" % (lost, len(losses)))


@each(minor=["3.11", "3.12"])
def test_threads(t, minor):
    """Seven threads and a tiny buffer."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "7", "70"))
    tracer = process.Tracer("-p", target.pid, "--buffer", "64K", "-o", t.path("trace.json.gz"),
                            "--control", t.path("socket"))
    tracer.recording()
    for _ in range(5):
        tracer.popen.send_signal(signal.SIGSTOP)
        for _ in range(3):
            target.ask(b"x", "done")  # 1000 calls, between which the others have their turns
        tracer.popen.send_signal(signal.SIGCONT)
        process.drained(t.path("socket"))
        target.ask(b"x", "done")
    tracer.expect(6, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json.gz"))
    t.check(lost_total(got) > 0, "nothing was lost")
    # A call that was open before a gap and one like it that is open after it look the same.
    gaps = {}
    for e in got.events:
        if e["ph"] == "i" and e["name"] == "events lost":
            gaps.setdefault(e["tid"], []).append((e["ts"], e["ts"] + e["args"]["gap (us)"]))
    # One that begins or ends within a gap says so itself; frames that a gap hides the start of begin
    # one nanosecond apart behind it, so the times alone do not tell.
    edges = ("open at start", "open at end", "begin lost", "end lost")
    whole = [s for s in got.named("unit") if not any(s.args.get(edge) for edge in edges)
             and not any(s.begin <= end and begin <= s.end
                         for begin, end in gaps.get(s.event["tid"], ()))]
    t.check(len(whole) > 100, "only %d calls of unit() without a gap", len(whole))
    t.equal({len(s.children) for s in whole}, {10}, "calls in unit()")
    t.check(os.path.getsize(t.path("trace.json.gz")) > 1000, "the trace is empty")


def test_default_buffer_loses_nothing(t):
    """The same calls with default options."""
    interp = interpreters.one()
    target = process.Target(interp, "calls",
                            command=process.script(interp, "calls.py", str(CALLS)))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"))
    tracer.recording()
    target.send(b"x")
    target.out.wait("first", "the target", limit_s=100)
    target.send(b"x")
    target.out.wait("second", "the target")
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json.gz"))
    t.equal(got.counts()["leaf"], CALLS, "slices of leaf()")
    t.equal(lost_total(got), 0, "lost events")
