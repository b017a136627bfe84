# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""merge: several recordings on one clock, and what it refuses."""
import json
import os

from harness import interpreters, process, trace

QUARTER_NS = 7889238 * 10**9  # times count from multiples of this


def moments(got):
    """Every slice: its absolute time, and what it is. Numbers of processes may differ."""
    base = got.document["baseTimeNanoseconds"]
    return sorted((base + s.begin, base + s.end, s.event["name"]) for s in got.slices())


def other_host(path, out, host, shift=0):
    """The same trace, as if another host had made it, whose times count from an earlier moment."""
    with open(path) as file:
        document = file.read()
    got = json.loads(document)
    base = got["baseTimeNanoseconds"]
    document = document.replace('"host": ' + json.dumps(got["pytrace-bpf"]["host"]),
                                '"host": "%s"' % host)
    document = document.replace('"baseTimeNanoseconds": %d' % base,
                                '"baseTimeNanoseconds": %d' % (base - shift))
    with open(out, "w") as file:
        file.write(document)


def record_together(t, targets, tracers):
    """All that the targets do, each with a recorder of its own; what they say of it."""
    for tracer in tracers:
        tracer.recording()
    for target in targets:
        target.go()
    said = [target.done() for target in targets]
    for tracer in tracers:
        tracer.expect(0, stop=True)
    for target in targets:
        t.equal(target.finish(), 0, "exit status of the target")
    return said


def test_merge(t):
    """Two recorders at once, a capture and a trace; the trace again as of another host, counting from
    another moment. All slices are there, each at its time; nothing of two files has one number."""
    interp = interpreters.one()
    targets = [process.Target(interp, "churn", "20") for _ in range(2)]
    names = [t.path("a.ptcap"), t.path("b.json")]
    tracers = [process.Tracer("-p", target.pid, "--follow=no", "-o", name)
               for target, name in zip(targets, names)]
    record_together(t, targets, tracers)
    process.run_tool("replay", names[0], "-o", t.path("a.json"))
    other_host(names[1], t.path("c.json"), "elsewhere", QUARTER_NS)
    parts = [trace.load(t.path(n)) for n in ("a.json", "b.json", "c.json")]

    _, said = process.run_tool("merge", *names, t.path("c.json"), "-o", t.path("all.json.gz"))
    got = trace.load(t.path("all.json.gz"))
    t.has(said, "3 files")
    t.equal([len(part.named("run_text")) for part in parts], [20, 20, 20], "what was recorded")
    t.equal(moments(got), sorted(m for part in parts for m in moments(part)), "slices")
    t.equal(got.document["baseTimeNanoseconds"], min(p.document["baseTimeNanoseconds"]
                                                     for p in parts), "the base")
    t.equal(len(got.processes), 3, "processes: %s" % got.processes)
    host = os.uname().nodename
    t.check(host in got.processes[targets[0].pid], "no host: %s", got.processes)
    t.equal([n for n in got.processes.values() if "(elsewhere, pid %d)" % targets[1].pid in n],
            [got.processes[max(got.processes)]], "the process of the other host")
    tids = [{e["tid"] for e in got.events if e["pid"] == pid} for pid in got.processes]
    t.equal(len(set.union(*tids)), sum(map(len, tids)), "threads' numbers")
    t.equal([i["file"] for i in got.document["pytrace-bpf inputs"]], names + [t.path("c.json")],
            "inputs")
    t.equal(got.document["pytrace-bpf summary"]["events"],
            sum(p.document["pytrace-bpf summary"]["events"] for p in parts), "events")
    out, _ = process.run_tool("report", t.path("all.json.gz"), "--json")
    t.equal(json.loads(out)["calls"], sum(part.count for part in parts), "calls in the report")
    refuse(t, names)


def refuse(t, names):
    """One message each, and no file."""
    with open(names[0], "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 0xff
    with open(t.path("bad.ptcap"), "wb") as file:
        file.write(data)
    with open(t.path("cut.json"), "w") as out, open(names[1]) as file:
        out.write(file.read()[:5000])
    with open(t.path("foreign.json"), "w") as file:
        json.dump({"traceEvents": []}, file)
    process.run_tool("replay", names[0], "--dialect", "viztracer", "-o", t.path("viz.json"))
    for name, code, text in (("nothing.json", 1, "cannot read"), ("nothing.ptcap", 1, "cannot read"),
                             ("bad.ptcap", 1, "is damaged"), ("cut.json", 1, "is damaged"),
                             ("foreign.json", 1, "is not a trace of pytrace-bpf"),
                             ("viz.json", 1, "VizTracer's dialect")):
        _, said = process.run_tool("merge", names[1], t.path(name), "-o", t.path("none.json"),
                                   code=code)
        t.has(said, text, name)
        t.equal(said.count("pytrace-bpf: "), 1, "messages: %s" % said)
        left = [f for f in os.listdir(t.folder) if "none.json" in f or f.startswith(".pytrace")]
        t.equal(left, [], "files left behind")
    for args, text in ((("merge", names[1]), "needs files, and -o"),
                       (("merge", "-o", t.path("none.json")), "needs files, and -o"),
                       (("merge", names[1], "-o", names[1]), "is one of the files"),
                       (("merge", names[1], "-o", t.path("none.ptcap")), "writes one trace")):
        _, said = process.run_tool(*args, code=2)
        t.has(said, text)
