# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""However the target ends, and whatever a thread is doing then, the trace is valid and balanced."""
import os
import signal
import time

from harness import interpreters, process, trace
from harness.runner import each

STATUS = {"_exit": 5, "crash": -signal.SIGSEGV, "abort": -signal.SIGABRT, "exit": 4, "exception": 1,
          "daemon": 0, "kill": -signal.SIGKILL, "exec": 0, "thread_exec": 0, "stop": 0}


def start(minor, action):
    interp = interpreters.one(minor)
    return process.Target(interp, "ends", command=process.script(interp, "ends.py", action))


def check_balanced(t, got, pid, action):
    counts = got.counts()
    t.equal(counts.get("below"), 71, "slices of below()")
    if action not in ("daemon", "stop"):
        t.equal(counts.get("leaf"), 100, "slices of leaf()")
    workload, = got.named("workload")
    depth, s = 0, workload
    while s.children:
        depth += 1
        s = s.children[0]
        if s.name != "below":
            break
    t.equal(depth, 72, "depth below workload()")
    t.check(all(key[0] == pid for key in got.threads), "threads of other processes")
    # What the end cut off says so; what ended before does not.
    if action in ("_exit", "crash", "abort", "kill", "exec"):
        t.check(workload.args.get("open at end"), "workload() has no 'open at end': %s",
                workload.args)
    for leaf in got.named("leaf")[:100]:
        if action != "daemon":
            t.equal(leaf.args.get("open at end"), None, "'open at end' of leaf()")


@each(minor=["3.9", "3.11", "3.12", "3.13"])
@each(action=[a for a in STATUS if a != "stop"])
def test_end(t, minor, action):
    target = start(minor, action)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    t.equal(target.popen.wait(60), STATUS[action], "exit status of the target")
    tracer.expect(0)  # ends by itself
    got = trace.load(t.path("trace.json"))
    check_balanced(t, got, target.pid, action)


@each(action=["_exit", "crash", "exit", "exec"])
def test_launched(t, action):
    """Launched, the command's exit status is passed on; a signal as the shell says it."""
    interp = interpreters.one()
    status = STATUS[action] if STATUS[action] >= 0 else 128 - STATUS[action]
    # another test may use the same interpreter now: what is executed would be traced a little late
    process.run_tool("-o", t.path("trace.json"), "--follow=exact", "--",
                     *process.script(interp, "ends.py", action, "--go"), code=status, c_default=True)
    got = trace.load(t.path("trace.json"))
    t.equal(got.counts().get("below"), 71, "slices of below()")
    if action == "exec":
        t.equal(got.counts().get("after_exec"), 1, "calls after exec()")


def test_exec_is_followed(t):
    """exec() in the traced process itself: the new image is traced from its first call."""
    target = start(None, "exec")
    tracer = process.Tracer("-p", target.pid, "--follow=exact", "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    t.equal(target.popen.wait(60), 0, "exit status of the target")
    tracer.expect(0)
    got = trace.load(t.path("trace.json"))
    check_balanced(t, got, target.pid, "exec")
    t.equal(got.counts().get("after_exec"), 1, "calls after exec()")


@each(minor=["3.10", "3.12"])
def test_stop_and_continue(t, minor):
    target = start(minor, "stop")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    target.out.wait("stopping", "the target")
    process.wait_until(lambda: target.state() == "T", "the target to stop")
    time.sleep(0.5)
    target.popen.send_signal(signal.SIGCONT)
    t.equal(target.popen.wait(60), 0, "exit status of the target")
    tracer.expect(0)
    got = trace.load(t.path("trace.json"))
    t.equal(got.counts().get("leaf"), 200, "slices of leaf()")
    stop, = got.named("stop")
    t.check(stop.end - stop.begin >= 400_000_000, "stop() took %d ns only", stop.end - stop.begin)


@each(minor=["3.10", "3.12"])
def test_stopped_target(t, minor):
    """Attach to a stopped process, end while it is stopped: nobody waits for it."""
    target = start(minor, "exit")
    target.popen.send_signal(signal.SIGSTOP)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    tracer.expect(0, stop=True)
    trace.load(t.path("trace.json"))
    target.popen.send_signal(signal.SIGCONT)
    target.go()
    t.equal(target.popen.wait(60), 4, "exit status of the target")


@each(minor=["3.8", "3.12"])
def test_kill_from_outside(t, minor):
    """kill -9 of the target under load, in seven threads."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "7", "70"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    target.go()
    target.done()  # 1000 calls in an eighth thread, by when each of the seven had its turns
    target.kill()
    tracer.expect(0)
    got = trace.load(t.path("trace.json.gz"))
    t.check(len(got.threads) >= 7, "%d threads in the trace", len(got.threads))
    for (_, tid), roots in got.threads.items():
        for root in roots:
            t.check(root.end > root.begin, "an empty slice in thread %d", tid)


def test_duration(t):
    """-d ends the recording, not the target; frames still open are closed at its end."""
    interp = interpreters.one()
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "2"))
    process.run_tool("-p", target.pid, "-d", "1s", "-o", t.path("trace.json.gz"), c_default=True)
    t.check(target.popen.poll() is None, "the target is gone")
    got = trace.load(t.path("trace.json.gz"))
    spins = got.named("spin")
    t.equal(len(spins), 2, "slices of spin()")
    for s in spins:
        t.check(0.8e9 < s.end - s.begin < 30e9, "spin() lasts %d ns", s.end - s.begin)
        t.equal([s.args.get("open at start"), s.args.get("open at end")], [True, True],
                "marks of spin(), which runs all the time")
    t.equal(target.finish(), 0, "exit status of the target")


@each(interp=interpreters.every)
def test_blocked_thread_over_two_sessions(t, interp):
    """Threads wait for a lock while one session ends and another begins. Their exits then come
    without an enter: no warning, no corruption. The frame that waits was called by Python, by C, or
    is a generator's."""
    target = process.Target(interp, "blocked", command=process.script(interp, "blocked.py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("first.json"), c_default=True)
    tracer.recording()
    target.send(b"w")  # main works, the other threads stay blocked
    target.out.wait("worked", "the target")
    first = tracer.expect(0, stop=True)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("second.json"), c_default=True)
    tracer.recording()
    target.send(b"l")  # the lock is released
    target.out.wait("released", "the target")
    second = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    for text in (first, second):
        t.check("warn" not in text.lower() and "error" not in text.lower(), "it said:\n%s", text)
    got = trace.load(t.path("first.json"))
    t.equal(got.counts().get("work_main"), 1, "slices of work_main() in the first session")
    t.equal(sum(1 for s in got.slices() if s.name.endswith("waits")), 3, "slices of waits(), open all the time")
    t.equal(got.counts().get("after_lock"), None, "calls after the lock in the first session")
    got = trace.load(t.path("second.json"))
    t.equal(got.counts().get("after_lock"), 9, "calls after the lock")
    outers = got.named("outer")
    t.equal(len(outers), 3, "slices of outer(), one a thread")
    for outer in outers:
        waits, = [c for c in outer.children if c.name.endswith("waits")]
        t.equal([waits.args.get("open at start"), outer.args.get("open at start")], [True, True],
                "marks of waits() and outer()")
        inside = [c.name for c in outer.children if c.begin > waits.end]
        t.equal(inside, ["after_lock"] * 3, "what outer() calls after waits()")
    t.check(os.path.getsize(t.path("second.json")) > 500, "the trace is empty")
