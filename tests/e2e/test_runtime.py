# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What is no Python call: garbage collections, waits for the GIL. The witnesses are CPython's own
(gc.callbacks, each thread's CPU time); trace.load() holds that all of it nests with the calls."""
import json
import signal

from harness import interpreters, process, trace
from harness.runner import Skip, each


def record(t, interp, *options, program, args=()):
    """(trace, what the program says of itself, its pid, what the tool said)"""
    target = process.Target(interp, program, *args)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    result = target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return trace.load(t.path("trace.json")), result, target.pid, text


def around(s):
    """The names of the calls around a slice, outwards."""
    names = []
    while s.parent is not None:
        s = s.parent
        if s.is_call:
            names.append(s.name)
    return names


def within(s, name):
    return any(x.name == name for x in s.walk())


def collection(s):
    """What a slice says of a collection, as gc.callbacks does; the USDT probes tell only the sum."""
    args = s.args
    if "unreachable" in args:
        return args["generation"], args["unreachable"]
    return args["generation"], args["collected"] + args["uncollectable"]


def check_collections(t, got, result):
    """Each collection that gc.callbacks saw, on its thread, in order, and no other."""
    truth = [(tid, generation, collected + uncollectable)
             for tid, generation, collected, uncollectable in result["collections"]]
    spans = [s for s in got.spans_of("gc") if "workload" in around(s) or "round_trip" in around(s)]
    spans.sort(key=lambda s: s.begin)
    t.equal([(s.event["tid"], *collection(s)) for s in spans], [tuple(x) for x in truth],
            "collections")
    t.check(len({tid for tid, _, _ in truth}) == 2 and {g for _, g, _ in truth} == {0, 1, 2},
            "the program was to collect all generations, on two threads")
    # what the collector runs lies within it
    for s in spans[-1], spans[0]:
        t.check(not s.calls() or all(c.name.endswith("__del__") or c.name == "finalised"
                                     for c in s.calls() if "saw" not in c.name),
                "calls within a collection: %s", [c.name for c in s.calls()])
    dels = got.counts().get("Cyclic.__del__", 0) + got.counts().get("__del__", 0)
    inside = sum(1 for s in spans for c in s.calls() if c.name.endswith("__del__"))
    t.equal(inside, dels, "finalisers within collections")
    counters = [e for e in got.events if e["ph"] == "C" and e["name"].startswith("gc")]
    t.equal(len(counters), len(got.spans_of("gc")), "values of the counter")
    print("%d collections, %d finalisers in them" % (len(spans), inside))


@each(interp=interpreters.every)
def test_gc(t, interp):
    got, result, _, _ = record(t, interp, program="collects")
    check_collections(t, got, result)


def without_dtrace():
    """One of each minor version from 3.14 on, and a debug build."""
    late = [i for i in interpreters.every() if i.minor >= (3, 14)]
    return list({(i.minor, i.name.endswith("d")): i for i in late}.values())


@each(interp=without_dtrace)
def test_gc_without_dtrace(t, interp):
    """The same in a build without USDT probes. Debian has none of 3.14 and later, so it is a copy
    whose notes of them have another name: what is left of a probe is a nop behind a test."""
    copy = process.Copy(interp)
    with open(copy.mapped, "r+b") as file:
        data = file.read()
        if b"stapsdt\0" not in data:
            raise Skip("%s was built without USDT probes, test_gc is enough" % interp)
        file.seek(0)
        file.write(data.replace(b"stapsdt\0", b"nothing\0"))
    target = process.Target(copy.interpreter, "collects", command=copy.drive("collects"),
                            env=copy.env())
    # the cache knows this build id, and what it knows of it is right
    tracer = process.Tracer("-p", target.pid, "--no-cache", "--gc", "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    check_collections(t, trace.load(t.path("trace.json")), result)


def test_gc_off(t):
    interp = interpreters.one()
    got, result, _, _ = record(t, interp, "--no-gc", program="collects")
    t.check(len(result["collections"]) > 3, "the program did not collect")
    t.equal(got.spans, [], "slices that are no calls")
    out, _ = process.run_tool("-p", "1", "--gc", "--no-gc", code=2)


def test_gc_launched(t):
    """From the first collection of the process to that of its end."""
    interp = interpreters.one()
    process.run_tool("-o", t.path("trace.json"), "--", *interp.command(
        "-c", "import gc\ngc.collect()\nprint(sum(s['collections'] for s in gc.get_stats()))"),
        stdout=open(t.path("out"), "w"))
    got = trace.load(t.path("trace.json"))
    with open(t.path("out")) as file:
        counted = int(file.read())
    # the rest comes when the interpreter ends
    module, = got.named("<module>")[-1:]
    before = [s for s in got.spans_of("gc") if s.end < module.end]
    t.equal(len(before), counted, "collections up to the program's end")
    t.check(len(got.spans_of("gc")) > counted, "none while the interpreter ended")


@each(interp=interpreters.every)
def test_gil(t, interp):
    """Threads that compete wait, each no longer than it did not run; one alone does not."""
    got, result, pid, _ = record(t, interp, "--gil", program="contends", args=("3", "0.4"))
    for tid, (wall, cpu) in result["threads"].items():
        spans = [s for s in got.spans_of("gil")
                 if s.event["tid"] == int(tid) and "busy" in around(s)]
        waited = sum(s.end - s.begin for s in spans)
        t.check(spans, "thread %s never waited", tid)
        # going to sleep and waking up is CPU time too
        t.check(waited <= wall - cpu + len(spans) * 1_000_000,
                "thread %s waited %d ns of %d ns, and ran %d ns", tid, waited, wall, cpu)
        for s in spans:
            t.check(s.args["timed waits"] >= 1 and not s.calls(), "a call within a wait: %s", s.args)
    print("%d waits" % len(got.spans_of("gil")))


@each(interp=interpreters.every)
def test_gil_holder(t, interp):
    """Who had the GIL: of two threads, one that keeps it; up to 3.10 a thread state has no id that
    could be read, and nothing is said."""
    got, result, pid, _ = record(t, interp, "--gil", program="contends", args=("hog", "0"))
    call, = got.named("poke")
    busy, = got.named("hog")
    waits = [s for s in got.spans_of("gil") if s.event["tid"] == result["poke"]
             and busy.begin < s.begin and call.begin < s.begin and s.end < min(busy.end, call.end)]
    t.check(waits, "poke() never waited for hog()")
    if interp.minor < (3, 11):
        t.check(not any("holder" in s.args for s in waits), "a holder: %s", waits[0].args)
    else:
        holders = [s.args.get("holder") for s in waits]
        # the main thread may be on its way from start() to join() still
        t.check(set(holders) <= {result["hog"], pid} and holders.count(pid) <= 2 and
                holders[-1] == result["hog"], "hog() is %d, holders: %s", result["hog"], holders)
        t.check(all(s.args["holder name"] for s in waits), "one has no name")
    print("%d waits" % len(waits))


def test_gil_alone(t):
    interp = interpreters.one()
    got, _, pid, _ = record(t, interp, "--gil", program="spin_once")
    t.equal(got.spans_of("gil"), [], "waits of a single thread")
    got, _, _, _ = record(t, interp, program="contends", args=("2", "0.1"))
    t.equal(got.spans_of("gil"), [], "waits without --gil")


def enters_and_exits(spans):
    """Of nested spans, in order."""
    bounds = [(s.begin, [1, s.name]) for s in spans] + [(s.end, [0, s.name]) for s in spans]
    return [x for _, x in sorted(bounds)]


@each(interp=interpreters.every)
def test_imports(t, interp):
    """Each module searched and loaded, nested, as importlib's own function is called in a second run
    that has a wrapper around it."""
    got, _, pid, _ = record(t, interp, program="imports")
    truth = process.Target(interp, "imports", "watch")
    truth.go()
    expected = [[kind, "import " + name] for kind, name in truth.done()["seen"]]
    truth.finish()
    spans = [s for s in got.spans_of("import") if "workload" in around(s) or "thread" in around(s)]
    found = enters_and_exits(spans)
    for i, pair in enumerate(zip(found, expected)):
        t.equal(*pair, "import %d" % i)
    t.equal(len(found), len(expected), "entries and exits of imports")
    t.check(len(expected) > 40, "only %d", len(expected))
    for s in spans:
        t.equal(s.parent.name, "_find_and_load", "what an import lies in")
    t.equal(len({s.event["tid"] for s in spans}), 2, "threads that import")
    print("%d imports" % len(spans))


def test_imports_off(t):
    interp = interpreters.one()
    got, _, _, _ = record(t, interp, "--no-imports", program="imports")
    t.equal(got.spans_of("import"), [], "imports with --no-imports")


def arguments(event):
    """Those of an audit event's instant, in order, cut as they are there."""
    args = event.get("args", {})
    return [args[str(i)] for i in range(5) if str(i) in args]


def same_argument(got, expected):
    if isinstance(expected, str) and isinstance(got, str) and got.endswith("\u2026"):
        return len(got) > 200 and expected.startswith(got[:-1])
    return got == expected


AUDITED = "app.*,open,compile,exec,os.listdir,os.putenv"


@each(interp=interpreters.every)
@each(hooked=[False, True])
def test_audit(t, interp, hooked):
    """The events that a hook hears in a second run, in order, by name and argument; each once, also
    if the traced process has a hook itself."""
    got, own, pid, _ = record(t, interp, "--audit", AUDITED, program="audits",
                              args=("watch",) if hooked else ())
    truth = own
    if not hooked:
        second = process.Target(interp, "audits", "watch")
        second.go()
        truth = second.done()
        second.finish()
    windows = {s.event["tid"]: s for s in got.slices() if s.name in ("workload", "marks")
               and s.event["tid"] != pid or s.name == "workload"}
    found = []
    for event in sorted(got.instants, key=lambda e: e["ts"]):
        window = windows.get(event["tid"])
        if window and window.begin <= event["ts"] <= window.end:
            found.append(event)
    # the line that tells of the end opens nothing
    t.equal([e["name"] for e in found], [name for name, _ in truth["seen"]], "events")
    for event, (name, expected) in zip(found, truth["seen"]):
        args = arguments(event)
        # without USDT probes those of C's events are in a form that cannot be read
        if not args and not name.startswith("app."):
            continue
        t.check(len(args) == min(5, len(expected)), "%s has %s, not %s", name, args, expected)
        for one, other in zip(args, expected):
            t.check(same_argument(one, other), "%s has %r, not %r", name, one, other)
        t.equal(event.get("args", {}).get("more", 0), max(0, len(expected) - 5), "arguments left out")
    t.check(len(found) > 20, "only %d events", len(found))
    print("%d events" % len(found))


def test_audit_choice(t):
    """Only what was asked for; bad names are refused."""
    interp = interpreters.one()
    got, _, _, _ = record(t, interp, "--audit", "app.other", "--audit=os.listdir", program="audits")
    t.equal({e["name"] for e in got.instants}, {"app.other", "os.listdir"}, "events")
    got, _, _, _ = record(t, interp, "--audit", "*", program="audits")
    t.check({"app", "app.mark", "unwanted", "compile"} <= {e["name"] for e in got.instants},
            "events of *: %s", {e["name"] for e in got.instants})
    got, _, _, _ = record(t, interp, program="audits")
    t.equal(got.instants, [], "events without --audit")
    for bad in ("", "a,,b", "a*b", "x" * 60):
        process.run_tool("-p", "1", "--audit", bad, code=2)


def raised(event):
    args = event.get("args", {})
    return [event["name"], [args["message"]] if "message" in args else arguments(event)]


@each(interp=interpreters.every)
def test_exceptions(t, interp):
    """What the program raised, by type and arguments, in order, on both threads, each once; the same
    as what sys.settrace() is told. The line is that of the traceback's last entry."""
    got, own, pid, _ = record(t, interp, "--exceptions", program="raises")
    second = process.Target(interp, "raises", "watch")
    second.go()
    watched = [x for x in second.done()["watched"] if x[0] != "StopIteration"]
    second.finish()
    expected = own["expected"]
    t.equal([[n, a[:3]] for n, a, _ in watched], [[n, a[:3]] for n, a in 2 * expected],
            "what the trace function was told")
    windows = [s for s in got.slices() if s.name == "everything"]
    t.equal(len({s.event["tid"] for s in windows}), 2, "threads")
    for window in windows:
        found = [e for e in sorted(got.instants, key=lambda e: e["ts"])
                 if e["tid"] == window.event["tid"] and window.begin <= e["ts"] <= window.end]
        t.equal([raised(e) for e in found], [[n, a[:3]] for n, a in expected], "exceptions")
        t.equal([e.get("args", {}).get("more", 0) for e in found],
                [max(0, len(a) - 3) for _, a in expected], "arguments left out")
        t.equal([e["args"].get("line") for e in found],
                [line for _, _, line in watched[:len(expected)]], "lines")
    print("%d exceptions" % len(got.instants))


def test_exceptions_off(t):
    interp = interpreters.one()
    got, _, _, _ = record(t, interp, program="raises")
    t.equal(got.instants, [], "exceptions without --exceptions")


@each(minor=["3.10", "3.12", "3.14"])
def test_loss(t, minor):
    """With everything on and a buffer that is much too small: what is there nests (trace.load() holds
    that), and what comes behind the loss is whole again."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "noise", command=process.script(interp, "noise.py", "600"))
    tracer = process.Tracer("-p", target.pid, "--buffer", "256K", "--gc", "--gil", "--imports",
                            "--exceptions", "--audit", "app.*", "-o", t.path("trace.json"),
                            "--control", t.path("socket"))
    tracer.recording()
    tracer.popen.send_signal(signal.SIGSTOP)
    target.send(b"x")
    target.out.wait("first", "the target", limit_s=100)
    tracer.popen.send_signal(signal.SIGCONT)
    process.drained(t.path("socket"))
    target.send(b"x")
    target.out.wait("second", "the target")
    tracer.expect(6, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    summary = got.document["pytrace-bpf summary"]
    t.check(summary["lost events"] > 1000 and summary["lost records"] > 100,
            "hardly a loss: %s", summary)
    t.equal(summary["damaged records"], 0, "damaged records")
    healed, = got.named("healed")
    calls = [c for c in healed.children if c.name == "once"]
    t.equal(len(calls), 20, "calls of once()")
    for i, call in enumerate(calls):
        spans = [s for s in got.spans if call.begin < s.begin < call.end
                 and s.event["tid"] == call.event["tid"]]
        t.equal([s.name for s in spans if s.category in ("gc", "import")],
                ["gc generation 0", "import small_b"], "spans of once(%d)" % i)
        instants = [e for e in sorted(got.instants, key=lambda e: e["ts"])
                    if e["tid"] == call.event["tid"] and call.begin < e["ts"] < call.end
                    and e["name"] in ("app.mark", "ValueError")]  # importlib raises others
        t.equal([(e["name"], {k: v for k, v in e["args"].items() if k != "line"})
                 for e in instants],
                [("app.mark", {"0": i}), ("ValueError", {"message": "no %d" % i})],
                "instants of once(%d)" % i)
    print("%s" % summary)


def test_replay(t):
    """A capture has all of it: the trace made of it is that of a live recording."""
    interp = interpreters.one()
    target = process.Target(interp, "raises")
    tracer = process.Tracer("-p", target.pid, "--imports", "--exceptions", "-o", t.path("a.ptcap"))
    tracer.recording()
    target.go()
    expected = target.done()["expected"]
    tracer.expect(0, stop=True)
    target.finish()
    process.run_tool("replay", t.path("a.ptcap"), "-o", t.path("a.json"))
    got = trace.load(t.path("a.json"))
    window = [s for s in got.slices() if s.name == "everything"][0]
    found = [e for e in sorted(got.instants, key=lambda e: e["ts"])
             if e["tid"] == window.event["tid"] and window.begin <= e["ts"] <= window.end]
    t.equal([e["name"] for e in found], [n for n, _ in expected], "exceptions")
    # a report counts calls, and nothing else
    out, _ = process.run_tool("report", t.path("a.json"), "--json")
    other, _ = process.run_tool("report", t.path("a.ptcap"), "--json")
    t.equal(json.loads(out)["calls"], got.count, "calls in the report of the trace")
    t.equal(json.loads(other)["calls"], got.count, "calls in the report of the capture")


def test_build_without_it(t):
    """An interpreter whose collector cannot be found: with --gc that is said, with the reason, without
    it is not; the calls are recorded all the same, and check tells."""
    copy = process.Copy(interpreters.one("3.12"))
    with open(copy.mapped, "r+b") as file:
        data = file.read()
        at = data.index(b"gc: collecting generation")
        file.seek(at)
        file.write(b"GC")
    for options, warned in (("--gc",), True), ((), False):
        target = process.Target(copy.interpreter, "collects", command=copy.drive("collects"),
                                env=copy.env())
        # the cache knows this build id, and what it knows of it is right
        tracer = process.Tracer("-p", target.pid, "--no-cache", "-o", t.path("trace.json"), *options)
        tracer.recording()
        target.go()
        target.done()
        text = tracer.expect(0, stop=True)
        got = trace.load(t.path("trace.json"))
        t.equal(got.spans, [], "collections")
        t.equal(len(got.named("round_trip")), 3, "calls of round_trip()")
        t.equal("--gc does nothing for CPython 3.12" in text, warned, "what is said: " + text)
        if warned:
            t.has(text, "the collector is not to be found")
            out, _ = process.run_tool("check", "--no-cache", "-p", target.pid)
            t.check(any(line.split()[:2] == ["fallback", "--gc"] for line in out.splitlines()),
                    "what check says:\n%s", out)
        t.equal(target.finish(), 0, "exit status of the target")


def test_off_has_no_probes(t):
    """What is off adds no probe."""
    target = process.Target(interpreters.one(), "churn", "3")

    def sites(*options):
        out, _ = process.run_tool("-p", target.pid, "--dry-run", "--json", *options)
        return [site["kind"] for site in json.loads(out)[0]["sites"]]
    t.equal(sites("--no-gc").count("runtime"), 0, "probes of the runtime with everything off")
    t.equal(sites().count("runtime"), 2, "probes for collections")
    t.equal(len(sites("--no-gc")), len(sites("--no-gc", "--no-imports")), "probes for imports")
    t.check(sites("--gil", "--exceptions", "--audit", "*").count("runtime") > 5, "too few probes")
    target.kill()


def test_check_names_features(t):
    """check -p says for each feature whether this interpreter has it, and by what."""
    for interp in interpreters.every():
        target = process.Target(interp, "churn", "3")
        out, _ = process.run_tool("check", "-p", target.pid)
        for feature in ("--gc", "--gil", "--imports", "--audit", "--exceptions"):
            rows = [line for line in out.splitlines() if feature in line.split()]
            t.equal(len(rows), 1, "rows for %s in:\n%s" % (feature, out))
            t.equal(rows[0].split()[0], "ok", "%s of %s" % (feature, interp))
        target.kill()
