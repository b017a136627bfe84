# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The traced process is left as it was: its code byte for byte, its hooks, its speed."""
import os
import random
import signal
import time

from harness import interpreters, process, trace
from harness.runner import alone, each, limit

MINORS = ["3.8", "3.10", "3.11", "3.12", "3.13"]


def own(minor, name, *args):
    """A program on its own copy of the interpreter, which the probes of other tests do not reach."""
    copy = process.Copy(interpreters.one(minor))
    command = copy.command(process.install_programs(copy.interpreter) + "/" + name, *args)
    return process.Target(copy.interpreter, name, command=command, env=copy.env()), copy


def spinning(minor, *args):
    return own(minor, "spin.py", *args)[0]


def settled(pid, before, limit_s=process.WAIT_S):
    """Bytes that differ, once the kernel has had its time to take the breakpoints out."""
    end = time.monotonic() + limit_s
    while True:
        count = process.text_differences(before, process.text_of(pid))
        if count == 0 or time.monotonic() > end:
            return count
        time.sleep(0.05)


def alive(t, target):
    target.send(b"x")
    result = target.done()
    t.equal(target.finish(), 0, "exit status of the target")
    return result


@each(minor=MINORS)
def test_text_after_normal_end(t, minor):
    target = spinning(minor, "2")
    before = process.text_of(target.pid)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    during = process.text_differences(before, process.text_of(target.pid))
    t.check(during > 0, "no byte changed while traced: this test sees nothing")
    time.sleep(0.05)
    tracer.expect(0, stop=True)
    t.equal(process.text_differences(before, process.text_of(target.pid)), 0, "bytes that differ")
    trace.load(t.path("trace.json.gz"))
    alive(t, target)
    print("%d bytes differed while traced" % during)


def child_differences(before, child):
    """It may map more than its parent did."""
    text = process.text_of(child)
    return process.text_differences(before, {key: text[key] for key in before})


@each(minor=["3.8", "3.12"])
def test_text_of_child(t, minor):
    """A child that is not followed loses the breakpoints that it inherits, and its parent none."""
    target, _ = own(minor, "heavy.py")
    before = process.text_of(target.pid)
    tracer = process.Tracer("-p", target.pid, "--follow=no", "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    during = process.text_differences(before, process.text_of(target.pid))
    t.check(during > 0, "no byte changed while traced: this test sees nothing")
    target.send(b"f")
    child = int(target.out.wait("child", "the target").split()[1])
    process.wait_until(lambda: child_differences(before, child) == 0,
                       "a child without breakpoints")
    t.equal(process.text_differences(before, process.text_of(target.pid)), during,
            "bytes that differ in the parent")
    t.equal(target.ask(b"e", "ended").split()[1], "0", "exit status of the child")
    tracer.expect(0, stop=True)
    t.equal(process.text_differences(before, process.text_of(target.pid)), 0, "bytes that differ")
    t.equal(target.finish(), 0, "exit status of the target")
    t.equal(set(trace.load(t.path("trace.json.gz")).processes), {target.pid}, "traced processes")


@each(sig=["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
@each(minor=["3.10", "3.12"])
def test_text_after_signal(t, minor, sig):
    """Whatever ends the tracer, no breakpoint is left."""
    target = spinning(minor, "2")
    before = process.text_of(target.pid)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    time.sleep(0.05)
    code = tracer.stop(getattr(signal, sig))
    if sig == "SIGKILL":
        t.equal(code, -signal.SIGKILL, "exit status of the tracer")
        t.equal(os.path.exists(t.path("trace.json.gz")), False, "a half file under the final name")
    elif sig in ("SIGTERM", "SIGINT"):
        t.equal(code, 0, "exit status of the tracer")
        trace.load(t.path("trace.json.gz"))
    t.equal(settled(target.pid, before), 0, "bytes that differ")
    alive(t, target)


@limit(300)
@each(minor=["3.13"])
def test_fifty_cycles(t, minor):
    """Attach and detach fifty times under load, every third time by SIGKILL at a random moment."""
    target = spinning(minor, "3", "20")
    before = process.text_of(target.pid)
    rng = random.Random(1)
    kills = 0
    for i in range(50):
        tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), "-d", "20ms", c_default=True)
        if i % 3 == 2:
            time.sleep(rng.random() * 0.4)
            tracer.stop(signal.SIGKILL)
            kills += 1
        else:
            tracer.expect(0)
            if i % 10 == 0:
                trace.load(t.path("trace.json.gz"))
        t.check(target.popen.poll() is None, "the target died in cycle %d", i)
    t.equal(settled(target.pid, before), 0, "bytes that differ")
    alive(t, target)
    print("50 cycles, %d of them killed" % kills)


@each(link=["exact", "late", "no"])
def test_forked_child(t, link):
    """A child made while traced has a clean text after the end, whichever kind of link it was."""
    target, _ = own(None, "forks.py", "hold")
    before = process.text_of(target.pid)
    tracer = process.Tracer("-p", target.pid, "--follow=" + link, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    child = target.done()["children"][0]
    tracer.expect(0, stop=True)
    t.equal(settled(target.pid, before), 0, "bytes that differ in the parent")
    t.equal(settled(child, before), 0, "bytes that differ in the child")
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    t.equal(set(got.processes), {target.pid} if link == "no" else {target.pid, child},
            "processes in the trace")


@each(sig=["SIGKILL"])
@each(link=["exact", "late", "no"])
def test_forked_child_after_kill(t, link, sig):
    target, _ = own(None, "forks.py", "hold")
    before = process.text_of(target.pid)
    tracer = process.Tracer("-p", target.pid, "--follow=" + link, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    child = target.done()["children"][0]
    tracer.stop(getattr(signal, sig))
    t.equal(settled(target.pid, before), 0, "bytes that differ in the parent")
    t.equal(settled(child, before), 0, "bytes that differ in the child")
    t.equal(target.finish(), 0, "exit status of the target")


def test_bystander_is_not_touched(t):
    """Another process on the same interpreter, not asked for, keeps its bytes while -p records."""
    target, copy = own(None, "spin.py")
    other = process.Target(copy.interpreter, "spin", env=copy.env(), command=copy.command(
        process.install_programs(copy.interpreter) + "/spin.py"))
    before = process.text_of(other.pid)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    t.equal(process.text_differences(before, process.text_of(other.pid)), 0,
            "bytes that differ in the bystander")
    tracer.expect(0, stop=True)
    t.equal(set(trace.load(t.path("trace.json.gz")).processes), {target.pid}, "processes")
    alive(t, target)
    alive(t, other)


@each(interp=interpreters.every)
def test_hooks_untouched(t, interp):
    """sys.getprofile(), sys.gettrace() and the six sys.monitoring tools, seen from inside."""
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    target.send(b"x")
    result = target.done()
    t.equal(result["profile"], "None", "sys.getprofile()")
    t.equal(result["trace"], "None", "sys.gettrace()")
    t.equal([tool for tool in result["tools"] if tool], [], "sys.monitoring tools")
    t.equal([e for e in result["events"] if e], [], "sys.monitoring events")
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    t.equal(trace.load(t.path("trace.json.gz")).counts().get("counted_leaf"), 1000,
            "slices of counted_leaf")


def test_own_profiler_goes_on(t):
    """A target that has a profiler of its own keeps it, and it sees the same calls."""
    interp = interpreters.one()
    oracle = t.path("oracle.json")
    target = process.Target(interp, "callforms", options=("--oracle", oracle))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    target.done()
    tracer.expect(0, stop=True)
    target.finish()
    reference = process.run_oracle(interp, "callforms", folder=t.folder)
    with open(oracle) as first, open(reference) as second:
        first, second = process.json.load(first), process.json.load(second)
    t.equal([x["events"] for x in first["threads"]], [x["events"] for x in second["threads"]],
            "what the target's own profiler saw")


@alone
def test_speed_is_back(t):
    """Not a benchmark: a breakpoint left behind would cost a factor of ten and more."""
    target = spinning(None, "0")

    def rate():
        target.out.lines.clear()
        target.send(b"r")
        return float(target.out.wait("rate", "the target").split()[1])
    before = max(rate() for _ in range(3))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    during = rate()
    tracer.expect(0, stop=True)
    t.check(during < before / 2, "traced %.0f units/s, untraced %.0f: was it traced?", during, before)
    # as soon as the machine has nothing else to do
    process.wait_until(lambda: rate() > before / 2, "half of %.0f units/s" % before)
    t.equal(target.finish(), 0, "exit status of the target")
