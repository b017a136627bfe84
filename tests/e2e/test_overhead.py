# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--max-overhead: recording rests between windows, and what it shows of the windows is right."""
import json

from harness import interpreters, process, trace
from harness.runner import alone, each

# What a_round() of heavy.py calls.
ROUND = ["leaf"] * 30 + ["middle"]
CUT = {"open at start", "open at end", "begin paused", "end paused"}
# The last events are a little younger than the pause, whose time is taken first; rests last 0.5 s.
GRACE_NS = 50000000
SPARSE = "0.02%"  # of a call-heavy program: a window, and a rest for the remainder of the test


def start(t, minor, limit, *options):
    interp = interpreters.one(minor)
    target = process.Target(interp, "heavy", command=process.script(interp, "heavy.py"))
    tracer = process.Tracer("-v", "-p", target.pid, "-o", t.path("trace.json"), "--control",
                            t.path("control"), "--max-overhead", limit, *options)
    tracer.recording()
    return target, tracer


def until(tracer, text, count=1):
    """Until the tracer has said so often that recording rests, or goes on."""
    process.wait_until(lambda: tracer.err.count("recording " + text) >= count,
                       "'recording %s' said %d times" % (text, count))


def own(s):
    return s.file.endswith("/heavy.py")


def pauses(got):
    """[(begin, end)] of the rests; the last one may have no end."""
    marks = sorted((e["ts"], e["name"]) for e in got.events
                   if e.get("cat") == "control" and e["name"].startswith("recording "))
    begins = sorted({int(ts) for ts, name in marks if name == "recording paused"})
    ends = sorted({int(ts) for ts, name in marks if name == "recording resumed"})
    return begins, ends


def whole_rounds(got, pid):
    return [s for s in got.slices() if own(s) and s.name == "a_round" and s.event["pid"] == pid and
            not CUT & set(s.args)]


def until_seen(t, pids):
    """Until each of them has a whole round in the trace: on a busy machine a window may be over
    before a process gets to run."""
    def seen():
        process.run_tool("ctl", "--socket", t.path("control"), "save", t.path("copy.json"))
        left = set(pids)
        with open(t.path("copy.json")) as file:  # an event a line
            for line in file:
                if ": a_round" in line and not any(cut in line for cut in CUT):
                    left -= {pid for pid in left if '"pid":%d,' % pid in line}
        return not left
    process.wait_until(seen, "a whole round of each of %s" % pids)


def check_windows(t, got, pids):
    """Each round that was seen whole has all it calls, nothing lies in a rest, and a thread that
    waits is shown as far as is known."""
    begins, ends = pauses(got)
    t.check(len(begins) >= 3, "%d rests", len(begins))
    for s in got.slices():
        for begin, end in zip(begins, ends + [1 << 63]):
            t.check(s.end <= begin + GRACE_NS or s.begin >= end, "%s lasts from %d to %d, over a rest "
                    "from %d to %d", s.name, s.begin, s.end, begin, end)
    for s in (s for pid in pids for s in whole_rounds(got, pid)):
        t.equal([c.name for c in s.children if own(c)], ROUND, "what a_round() calls")
        middle, = [c for c in s.children if c.name == "middle"]
        below = [c.name for c in middle.walk() if own(c)]
        t.equal((below.count("leaf"), below.count("generated")), (6, 4), "what middle() calls")
    first = [s for s in got.named("waits")]
    t.equal(len(first), 1, "slices of waits(), which waits all the time")
    t.check(first[0].end <= begins[0] + GRACE_NS and "end paused" in first[0].args,
            "waits() is shown beyond the first rest")


def check_samples(t, got, pids):
    """In the rests there are samples, and nowhere else."""
    begins, ends = pauses(got)
    names = {e["name"] for e in got.events if e.get("cat") == "control"}
    t.check("samples are taken meanwhile" in names, "instants: %s", names)
    spans = got.spans_of("python_sample")
    t.check({s.event["pid"] for s in spans} == pids, "processes with samples: %s, not %s",
            {s.event["pid"] for s in spans}, pids)
    for s in spans:
        t.check(any(begin <= s.begin and s.end <= end for begin, end in
                    zip(begins, ends + [1 << 63])), "%s from %d to %d lies in no rest", s.name,
                s.begin, s.end)
    t.check(any(s.name.endswith("a_round") for s in spans), "no sample has a_round()")


@each(which=["3.8,exact", "3.11,late", "3.12,exact", "3.14,late"])
def test_windows(t, which):
    minor, follow = which.split(",")
    target, tracer = start(t, minor, "5%", "--follow=" + follow)
    until(tracer, "rests")
    target.send(b"f")  # born while there are no probes
    child = int(target.out.wait("child", "the target").split()[1])
    until(tracer, "rests", 3)
    until_seen(t, {target.pid, child})
    err = tracer.expect(0, stop=True)
    t.equal(target.ask(b"e", "ended").split()[1], "0", "exit status of the child")
    t.equal(target.finish(), 0, "exit status of the target")
    t.has(err, "recording rests", "of the processes' own CPU time (--max-overhead 5%)")
    t.check("lost" not in err.replace("nothing lost", ""), "it said:\n%s", err)
    got = trace.load(t.path("trace.json"))
    t.equal(got.document["pytrace-bpf summary"]["stack jumps"], 0, "stack jumps")
    check_windows(t, got, {target.pid, child})
    check_samples(t, got, {target.pid, child})


@alone  # others' probes in the same file would be taken for its own
@each(minor=["3.12"])
def test_rests_without_probes(t, minor):
    """While it rests only the probes stay that say that a code object is freed."""
    target, tracer = start(t, minor, SPARSE)
    until(tracer, "rests")
    during = process.text_of(target.pid)
    tracer.expect(0, stop=True)
    left = process.text_differences(process.text_of(target.pid), during)
    t.check(0 < left <= 2, "%d bytes differ while recording rests", left)
    t.equal(target.finish(), 0, "exit status of the target")


def recorded_with_c_functions(t, minor):
    """(the trace, when the first rest began and ended)"""
    target, tracer = start(t, minor, "20%", "--c-functions=all")
    until(tracer, "goes on", 3)
    err = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    t.has(err, "without C functions")
    got = trace.load(t.path("trace.json"))
    begins, ends = pauses(got)
    return got, begins[0], ends[0]


@each(minor=["3.9", "3.12"])
def test_c_functions(t, minor):
    """They are left out first."""
    for _ in range(5):
        got, begin, end = recorded_with_c_functions(t, minor)
        rounds = [s for s in got.slices() if own(s) and s.name == "a_round" and s.end <= begin and
                  not CUT & set(s.args)]
        if rounds:  # on a busy machine the program may not get to run before the first rest
            break
    built_in = [s for s in got.slices() if s.name.startswith("<built-in")]
    t.check(built_in, "no C function was recorded in %d rounds before", len(rounds))
    for s in built_in:
        t.check(s.end <= end, "%s at %d, after they were given up", s.name, s.begin)


@each(minor=["3.12"])
def test_pause_while_resting(t, minor):
    """A pause that somebody asked for lasts until he ends it."""
    target, tracer = start(t, minor, "20%")
    until(tracer, "rests")
    out, _ = process.run_tool("ctl", "--socket", t.path("control"), "pause")
    t.equal(json.loads(out)["state"], "paused", "state")
    process.run_tool("ctl", "--socket", t.path("control"), "resume")
    until(tracer, "goes on")
    until(tracer, "rests", 2)
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    trace.load(t.path("trace.json"))


def test_cpu(t):
    """The same for what the tool takes itself."""
    interp = interpreters.one("3.12")
    target = process.Target(interp, "heavy", command=process.script(interp, "heavy.py"))
    tracer = process.Tracer("-v", "-p", target.pid, "-o", t.path("trace.json"), "--max-cpu", "1%")
    tracer.recording()
    until(tracer, "rests")
    err = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    t.has(err, "--max-cpu: recording rests", "of one CPU (--max-cpu 1%)")
    begins, _ = pauses(trace.load(t.path("trace.json")))
    t.check(begins, "no rest in the trace")
    with open(t.path("trace.json")) as file:
        t.has(file.read(), "to keep within --max-cpu")


def test_memory(t):
    """It ends in order when the tool has grown too large, and what came before is there."""
    interp = interpreters.one("3.12")
    command = process.script(interp, "grows.py", "10000")
    _, err = process.run_tool("--max-memory", "8M", "-o", t.path("trace.json"), "--", *command)
    t.has(err, "nothing lost (stopped by --max-memory)")
    got = trace.load(t.path("trace.json"))
    numbers = [int(s.name[1:]) for s in sorted(got.slices(), key=lambda s: s.begin)
               if s.name[:1] == "f" and s.name[1:].isdigit()]
    t.check(len(numbers) > 100, "%d functions only", len(numbers))
    t.check(numbers == list(range(len(numbers))), "there are gaps up to there")
    _, err = process.run_tool("--max-memory", "1M", "-o", t.path("none.json"), "--", *command, code=2)
    t.has(err, "--max-memory: 1.0 MB are not enough to begin with")


@each(options=[("0%",), ("-1",), ("101%",), ("x",), ("1%", "--start-on=f"), ("1%", "--memory")])
def test_bad_value(t, options):
    for name in ("--max-overhead", "--max-cpu"):
        _, err = process.run_tool(name, *options, "-p", "1", code=2)
        t.has(err, name)
