# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--gpu-bounds: each piece of work ends in the call in which a double of two GPUs did it, which does
everything as late as CUDA's documentation allows (programs/gpu_double.c); so the bounds are neither
too short nor longer than they must be."""
import bisect
import collections
import os
import subprocess

from harness import hta, interpreters, process, trace
from harness.runner import each

LAUNCHES = {"cudaLaunchKernel", "cudaMemsetAsync", "cudaMemcpyAsync", "cudaMemcpy", "cudaGraphLaunch"}
CATEGORY = "gpu_bounds"
# Boundaries of slices of one thread at the same nanosecond are moved apart.
SHIFT = 100  # ns


def double(folder):
    library, version = os.path.join(folder, "gpu.so"), os.path.join(folder, "version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", os.path.join(process.PROGRAMS, "gpu_double.c"),
                    "-Wl,--version-script=" + version, "-o", library], check=True)
    return library


def record(t, out, *options, steps):
    target = process.Target(interpreters.one(), "gpu_streams", steps,
                            env=process.environment(CUDA_LIB=double(t.folder)))
    tracer = process.Tracer("-p", target.pid, "-o", t.path(out), *options)
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return result


def calls_of(got):
    """{tid: slices of its calls, in order}"""
    calls = collections.defaultdict(list)
    for s in got.spans:
        if s.category == "cuda_runtime":
            calls[s.event["tid"]].append(s)
    for own in calls.values():
        own.sort(key=lambda s: s.begin)
    return calls


def bound_by_call(t, got, calls):
    """{correlation id: the bound that the call's arrow leads to}"""
    by_id = {s.args["correlation"]: s for own in calls.values() for s in own}
    starts = {track: [b.begin for b in own] for track, own in got.bounds.items()}
    found = {}
    for s, f in got.flows:
        if s["cat"] != CATEGORY:
            continue
        track, call = (f["pid"], f["tid"]), by_id[s["id"]]
        t.equal((s["pid"], s["tid"]), (call.event["pid"], call.event["tid"]), "where it begins")
        t.check(call.begin <= s["ts"] <= call.end, "an arrow that begins beside its call: %s", s)
        bound = got.bounds[track][bisect.bisect_right(starts[track], f["ts"]) - 1]
        t.check(bound.begin <= f["ts"] < bound.end, "an arrow to nowhere: %s", f)
        found[s["id"]] = bound
    return found


def check_work(t, works, calls, found):
    counts = collections.Counter()
    launches = {tid: [s for s in own if s.name in LAUNCHES and s.args["return"] == "cudaSuccess"]
                for tid, own in calls.items()}
    for tid, number, done_tid, done_number, captured in works:
        launch = launches[tid][number - 1]
        bound = found.get(launch.args["correlation"])
        counts["captured" if captured else "done" if done_tid else "open"] += 1
        if captured:
            t.equal(bound, None, "what was captured")
            continue
        t.check(bound, "no bound of %s", launch.event)
        t.check(bound.begin <= launch.begin and launch.end <= bound.end + SHIFT,
                "%s is not in its bound", launch.event)
        if done_tid:
            last = calls[done_tid][done_number - 1]
            t.equal((bound.args["ended by"], bound.args.get("ended by call")),
                    (last.name, last.args["correlation"]), "what ended %s" % launch.event)
        else:
            t.equal(bound.args["ended by"], "end of the recording", "what nothing waited for")
            t.equal(bound.args["open at end"], True, "what nothing waited for")
    t.equal(sum(len(own) for own in launches.values()), len(works), "launches")
    for what in ("captured", "done", "open"):
        t.check(counts[what], "nothing was %s", what)
    return counts


@each(how=["trace", "capture"])
def test_bounds(t, how):
    """Random work in threads, streams and two devices; live, and from a capture."""
    options = ["--gpu-bounds"] if how == "trace" else []
    result = record(t, "trace.json" if how == "trace" else "raw.ptcap", *options, steps="1200")
    if how == "capture":
        process.run_tool("replay", "--gpu-bounds", t.path("raw.ptcap"), "-o", t.path("trace.json"))
    rows = hta.check(t.path("trace.json"))
    t.equal([r for r in rows if r["cat"] == CATEGORY or r["stream"] >= 0 and
             "kernel" not in r["event"]["args"]], [], "what passes for measured")
    got = trace.load(t.path("trace.json"))
    calls = calls_of(got)
    t.equal(sum(len(own) for own in calls.values()), result["calls"], "calls")
    found = bound_by_call(t, got, calls)
    counts = check_work(t, result["works"], calls, found)
    by_id = {s.args["correlation"]: s for own in calls.values() for s in own}
    for bound in found.values():  # the library was there before the recording
        last = by_id.get(bound.args.get("ended by call"))
        itself = last and last.name in ("cudaStreamSynchronize", "cudaStreamQuery") and (
            bound.args["in"] == "stream " + last.args["stream"])
        t.equal("assumes" in bound.args, bool(last) and not itself, "doubt of %s" % bound.event)
    works = counts["done"] + counts["open"]
    t.equal(sum(b.args["works"] for own in got.bounds.values() for b in own), works, "works")
    summary = got.document["pytrace-bpf summary"]
    t.equal((summary["GPU work with bounds"], summary["GPU work without bounds"]), (works, 0),
            "in the summary")
    t.equal({pid for pid, _ in got.bounds}, {0, 1}, "devices")
    t.equal([got.processes.get(i) for i in range(2)], ["GPU 0", "GPU 1"], "names of devices")
    print("%s, %d bounds" % (dict(counts), sum(map(len, got.bounds.values()))))


def test_off(t):
    """Nothing of it without the option; and what it needs."""
    record(t, "trace.json", steps="20")
    t.equal([e for e in trace.load(t.path("trace.json")).events if e.get("cat") == CATEGORY], [],
            "bounds")
    for options in (["--cuda", "runtime"], ["--cuda", "none"], ["--start-on", "f"]):
        _, err = process.run_tool("--gpu-bounds", *options, "-p", "1", code=2)
        t.has(err, "--gpu-bounds")
