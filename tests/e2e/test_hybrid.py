# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--engine hybrid: of Python samples, and beside them, on tracks of their own, each single thing that
has probes apart from those of calls. The program says what it did; trace.load() holds that nothing
on a track crosses."""
import collections
import itertools
import os
import subprocess

from harness import interpreters, process, trace
from harness.runner import each

from test_sample import SIGMAS, SLACK

HZ = 499
PERIOD_NS = 1000000000 // HZ


def library(t, interp):
    """The double of libcudart, as the program sees it."""
    inside = process.install_programs(interp) if interp.root else t.folder
    folder = (interp.root or "") + inside
    source = os.path.join(process.PROGRAMS, "cuda_double.c")
    driver, runtime = os.path.join(folder, "driver.so"), os.path.join(folder, "runtime.so")
    with open(t.path("version"), "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    base = ["cc", "-O1", "-shared", "-fPIC", source]
    subprocess.run([*base, "-Wl,-soname,driver.so", "-o", driver], check=True)
    subprocess.run([*base, "-DRUNTIME", "-Wl,--version-script=" + t.path("version"), "-o", runtime,
                    driver, "-Wl,-rpath,$ORIGIN"], check=True)
    return os.path.join(inside, "runtime.so")


def sampled(document):
    """Counter of innermost functions by their samples; and the tracks that have such slices."""
    own, tracks = collections.Counter(), set()
    for e in document["traceEvents"]:
        if e["ph"] == "X" and e["cat"] == "python_sample":
            own[e["name"].split(": ")[-1].split(".")[-1]] += e["args"]["self samples"]
            tracks.add(e["tid"])
    return own, tracks


def check_shares(t, own, parts):
    total, spent = sum(own[name] for name in parts), sum(parts.values())
    t.check(total >= 50, "only %d samples", total)
    for name, ns in parts.items():
        share = ns / spent
        bound = SIGMAS * (total * share * (1 - share)) ** 0.5 + SLACK * total
        t.check(abs(own[name] - share * total) <= bound, "%s has %d of %d samples, and %.3f of the "
                "time", name, own[name], total, share)


def exact(got):
    """[(tid, what)] of what is no sample, in the words of the program."""
    found = []
    for s in got.spans:
        if s.category in ("gc", "cuda_runtime"):
            found.append((s.begin, s.event["tid"], s.name))
    for s in got.slices():
        found.append((s.begin, s.event["tid"], "sleep" if "sleep" in s.event["name"] else s.name))
    for e in got.instants:
        if e["name"] == "KeyError":
            found.append((e["ts"], e["tid"], e["name"]))
    return [row[1:] for row in sorted(found)]


def check_order(t, seen, did, tid):
    """Says of a difference where it is, as there are hundreds."""
    for i, (one, other) in enumerate(itertools.zip_longest(seen, did)):
        t.equal(one, other, "number %d of thread %d" % (i, tid))


def by_thread(rows):
    threads = collections.defaultdict(list)
    for tid, what in rows:
        threads[tid].append(what)
    return dict(threads)


@each(version=("3.8", "3.11", "3.12", "3.14"))
def test_hybrid(t, version):
    """Each CUDA call, collection, sleep and exception, in the threads' order; samples by share."""
    interp = interpreters.one(version)
    target = process.Target(interp, "hybrid", "300",
                            env=process.environment(CUDA_LIB=library(t, interp)))
    tracer = process.Tracer("-p", target.pid, "--engine", "hybrid", "-F", HZ, "--cuda", "auto",
                            "--exceptions", "--c-functions", "time.sleep", "-o",
                            t.path("a.ptcap"))
    tracer.recording()
    target.go()
    result = target.done()
    t.has(tracer.expect(0, stop=True), "engine hybrid", "samples, and", "nothing lost")
    t.equal(target.finish(), 0, "exit status of the target")
    process.run_tool("replay", t.path("a.ptcap"), "-o", t.path("a.json"))
    got = trace.load(t.path("a.json"))
    own, tracks = sampled(got.document)
    check_shares(t, own, result["parts"])
    truth = by_thread(result["did"])
    seen = by_thread(exact(got))
    t.equal(set(seen), set(truth), "threads")
    for tid, rows in truth.items():
        check_order(t, seen[tid], rows, tid)
    names = {e["tid"]: e["args"]["name"] for e in got.document["traceEvents"]
             if e["ph"] == "M" and e["name"] == "thread_name"}
    t.check({names[tid] for tid in tracks} >= {"thread %d: samples" % tid for tid in truth},
            "tracks of samples: %s", names)
    lines = {e["args"].get("line") for e in got.instants if e["name"] == "KeyError"}
    t.check(None not in lines and len(lines) == 1, "lines of the exceptions: %s", lines)
