# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--memory: what is left of CUDA memory, and every count, as the program itself knows it
(programs/cuda_storm.py), by way of a trace and of a capture."""
import collections
import json
import os
import pickle
import pickletools
import subprocess

import test_stacks
from harness import interpreters, process, trace
from harness.runner import each


def double(folder):
    library, version = os.path.join(folder, "memory.so"), os.path.join(folder, "version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-pthread",
                    os.path.join(process.PROGRAMS, "cuda_memory_double.c"),
                    "-Wl,--version-script=" + version, "-o", library], check=True)
    return library


def record(t, interp, out, *options, steps="400", what=()):
    target = process.Target(interp, "cuda_storm", steps, *what,
                            env=process.environment(CUDA_LIB=double(t.folder)))
    tracer = process.Tracer("-p", target.pid, "-o", t.path(out), *options)
    tracer.recording()
    target.go()
    result = target.done()
    t.equal(target.finish(), 0, "exit status of the target")
    tracer.expect(0)
    return target.pid, result


def memory_report(t, path, *options):
    out, _ = process.run_tool("report", "--memory", "--json", "--top", "100000", t.path(path),
                              *options)
    return json.loads(out)


def name_of(frame):
    return frame.split("): ", 1)[1].split(", line ")[0]


def check_process(t, found, live, counts):
    """What is left, by kind, device and function; and how many calls there were of each kind."""
    left = collections.defaultdict(lambda: [0, 0])
    for row in found["still_allocated"]:
        key = row["kind"], row["device"], name_of(row["stack"][0])
        left[key][0] += row["bytes"]
        left[key][1] += row["allocations"]
    expected = {(kind, device, function): [total, number]
                for kind, device, function, total, number in live}
    t.equal(dict(left), expected, "what is left")
    calls = {key: value for key, value in found["calls"].items() if value}
    t.equal(calls, {key: value for key, value in counts.items() if value}, "calls")
    in_use = collections.Counter()
    for kind, device, _, total, _ in live:
        in_use[kind, device] += total
    t.equal({(row["kind"], row["device"]): row["bytes"] for row in found["in_use"]
             if row["bytes"]}, dict(in_use), "bytes in use")
    for row in found["in_use"]:
        t.check(row["most_bytes"] >= row["bytes"], "most bytes of %s", row)


def check_tracks(t, got, pid, found):
    """The counter tracks end with what is in use, and never fall below nothing."""
    last = {}
    for e in sorted((e for e in got.events if e["ph"] == "C" and e["pid"] == pid
                     and e["name"].startswith("CUDA memory")), key=lambda e: e["ts"]):
        last[e["name"]] = e["args"]["bytes"]
        t.check(e["args"]["bytes"] >= 0, "a track below nothing: %s", e)
    names = {}
    for row in found["in_use"]:
        device = "?" if row["device"] is None else row["device"]
        name = row["kind"] if "host" in row["kind"] else "device %s, %s" % (device, row["kind"])
        names["CUDA memory: " + name] = row["bytes"]
    t.equal(last, names, "where the tracks end")


def of(report, pid):
    return next(found for found in report["processes"] if found["pid"] == pid)


@each(cuda=["auto", "all"])
def test_storm(t, cuda):
    """Random allocations and frees in threads; a trace."""
    pid, result = record(t, interpreters.one(), "trace.json.gz", "--memory", "--cuda", cuda)
    report = memory_report(t, "trace.json.gz")
    t.equal((report["lost_events"], report["lost_records"]), (0, 0), "losses")
    found = of(report, pid)
    check_process(t, found, result["live"], result["counts"])
    t.equal(found["ended"], True, "the process has ended")
    got = trace.load(t.path("trace.json.gz"))
    check_tracks(t, got, pid, found)
    print("%d allocations" % result["counts"]["allocations"])


@each(recorded=["with", "without"])
def test_capture(t, recorded):
    """The same by way of a capture, whether or not the recording asked for it; a child of a fork has
    memory of its own. Replay gives the same as the capture itself."""
    options = ["--memory"] if recorded == "with" else []
    pid, result = record(t, interpreters.one(), "raw.ptcap", "--follow", "exact", *options,
                         what=("fork",))
    report = memory_report(t, "raw.ptcap")
    check_process(t, of(report, pid), result["live"], result["counts"])
    check_process(t, of(report, result["child"]), [["device", None, "linear", 4321, 1]],
                  {"allocations": 1})
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"), "--memory")
    again = memory_report(t, "trace.json")
    t.equal(again["processes"], report["processes"], "by way of a trace")
    text, _ = process.run_tool("report", "--memory", t.path("raw.ptcap"))
    t.has(text, "CUDA memory of process %d, which has ended: " % pid)
    t.has(text, "What was allocated before the recording reached a process is not known.")
    wrong = [e["name"] for e in trace.load(t.path("trace.json")).events
             if e["ph"] == "i" and e["cat"] == "cuda_memory" and "address" in e["args"]]
    t.equal(collections.Counter(wrong),
            {"double free": result["counts"]["double frees"],
             "free of an unknown address": result["counts"]["frees of unknown addresses"]},
            "what is told of single calls")


def test_off(t):
    """Without the option there is nothing of it in the trace, and the report says so."""
    record(t, interpreters.one(), "trace.json", steps="20")
    got = trace.load(t.path("trace.json"))
    t.equal([e for e in got.events if "memory" in e.get("cat", "") or e["ph"] == "C"
             and e["name"].startswith("CUDA")], [], "about memory")
    text, _ = process.run_tool("report", "--memory", t.path("trace.json"))
    t.has(text, "nothing about CUDA memory")
    for options in (["--cuda", "none"], ["--start-on", "f"]):
        _, err = process.run_tool("--memory", *options, "-p", "1", code=2)
        t.has(err, "--memory")


def test_lines(t):
    """With --lines the callers' lines are in the stacks."""
    pid, result = record(t, interpreters.one(), "trace.json", "--memory", "--lines", steps="50")
    found = of(memory_report(t, "trace.json"), pid)
    check_process(t, found, result["live"], result["counts"])
    stacks = [row["stack"] for row in found["still_allocated"]]
    source = open(os.path.join(process.PROGRAMS, "cuda_storm.py")).read().splitlines()
    callers = [s[1] for s in stacks if name_of(s[1]) == "allocate"]
    t.check(callers, "no stack with allocate()")
    for frame in callers:
        line = int(frame.rsplit(", line ", 1)[1])
        t.has(source[line - 1], "rng.choice(KINDS)")


def shown(frame):
    """As test_stacks has Python frames; those of files without lines are native."""
    return (frame["filename"], frame["name"], frame["line"]) if frame["line"] else frame["name"]


@each(native=[False, True])
def test_stacks_at_calls(t, native):
    """Each allocation and free has the Python frames that the program saw, each with its line, and with
    --stacks the native ones as well; in the snapshot, in the report by way of a capture."""
    libs = test_stacks.libraries(t.folder)
    options = ["--stacks", "malloc"] if native else []
    calls, _ = test_stacks.record(t, interpreters.one(), libs[2], "--memory", *options,
                                  out="raw.ptcap")
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"), "--memory-history",
                     t.path("memory.pickle"))
    entries = [e for trace_ in history(t, "memory.pickle")["device_traces"] for e in trace_]
    for action in ("alloc", "free_completed"):
        of_action = [[shown(f) for f in e["frames"]] for e in entries if e["action"] == action]
        t.equal(sorted(str([f for f in frames if isinstance(f, tuple)]) for frames in of_action),
                sorted(str([tuple(f) for f in call[2]]) for call in calls), action + ": Python frames")
        t.equal({"deep::outer(unsigned long)" in frames for frames in of_action}, {native},
                action + ": native frames")
    mallocs = test_stacks.spans(trace.load(t.path("trace.json")))
    t.equal({"sf" in s.event for s in mallocs}, {True}, "calls with a stack")


VIZ = "usr/lib/python3/dist-packages/torch/cuda/_memory_viz.py"


def history(t, path):
    """The snapshot, by Python's own pickle, in which only what PyTorch's viewer knows may stand."""
    with open(t.path(path), "rb") as file:
        data = file.read()
    known = {"PROTO", "EMPTY_DICT", "EMPTY_LIST", "MARK", "BINUNICODE", "BININT", "LONG1",
             "SETITEMS", "APPEND", "LONG_BINPUT", "LONG_BINGET", "STOP"}
    t.equal({op.name for op, _, _ in pickletools.genops(data)} - known, set(), "other opcodes")
    return pickle.loads(data)


def check_history(t, got, live, counts, pid):
    """All that was allocated and freed is in the traces, and the segments are what is left."""
    places = got["pytrace-bpf"]["devices"]
    t.equal(got["pytrace-bpf"]["pid"], pid, "the process")
    left = collections.defaultdict(lambda: [0, 0])
    for segment in got["segments"]:
        t.equal([b["size"] for b in segment["blocks"]], [segment["total_size"]], "a block")
        key = places[segment["device"]], segment["kind"], segment["frames"][0]["name"]
        left[key][0] += segment["total_size"]
        left[key][1] += 1
    names = {None: "device not known"}
    t.equal(dict(left), {("memory of the host" if "host" in kind
                          else names.get(device, "device %s" % device), kind, function):
                         [total, number] for kind, device, function, total, number in live},
            "segments")
    actions = collections.Counter(e["action"] for trace_ in got["device_traces"] for e in trace_)
    blocks = counts["allocations"] - 1  # one of no bytes
    t.equal(actions, {"segment_alloc": blocks, "alloc": blocks, "free_requested": counts["frees"],
                      "free_completed": counts["frees"], "segment_free": counts["frees"]},
            "actions")
    for index, events in enumerate(got["device_traces"]):
        t.equal(events, sorted(events, key=lambda e: e["time_us"]), "order")
        open_ = {}
        for e in events:
            if e["action"] == "alloc":
                t.check(open_.setdefault(e["addr"], e) is e, "twice: %s", e)
            elif e["action"] == "free_completed":
                t.equal(open_.pop(e["addr"])["size"], e["size"], "size of a free")
        t.equal(sorted(open_),
                sorted(s["address"] for s in got["segments"] if s["device"] == index), "what is left")


def test_history(t):
    """PyTorch's snapshot, live and by replay, and PyTorch's own program reads it."""
    pid, result = record(t, interpreters.one(), "trace.json", "--memory-history",
                         t.path("memory.pickle"), "--follow", "exact", what=("fork",))
    got = history(t, "memory.pickle")
    check_history(t, got, result["live"], result["counts"], pid)
    child = history(t, "memory_%d.pickle" % result["child"])
    t.equal([s["total_size"] for s in child["segments"]], [4321], "the child's")
    t.equal(child["segments"][0]["frames"][0]["name"], "linear", "the child's stack")
    roots = [i for i in interpreters.every() if i.root and os.path.exists(i.root + "/" + VIZ)]
    if not roots:
        print("no PyTorch to read it with")
        return
    # it is a plain program, which any Python runs
    viz = [interpreters.one().path, os.path.join(roots[0].root, VIZ)]
    for verb in ("stats", "trace"):
        done = subprocess.run([*viz, verb, t.path("memory.pickle")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        t.equal(done.returncode, 0, "%s: %s" % (verb, done.stdout[-500:]))
    for verb in ("trace_plot", "segment_plot"):
        subprocess.run([*viz, verb, t.path("memory.pickle"), "-o", t.path("out.html")], check=True)
        t.has(open(t.path("out.html")).read(), "snapshot.pickle")


def test_history_replayed(t):
    pid, result = record(t, interpreters.one(), "raw.ptcap", "--memory")
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"),
                     "--memory-history", t.path("memory_%p.pickle"))
    check_history(t, history(t, "memory_%d.pickle" % pid), result["live"], result["counts"], pid)
    _, err = process.run_tool("-p", str(os.getpid()), "-o", t.path("x.ptcap"), "--memory-history",
                              t.path("x.pickle"), code=2)
    t.has(err, "give it to replay")
    _, err = process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("x.json"),
                              "--memory-history", t.path("nowhere/x.pickle"), code=1)
    t.has(err, "make the folder first")
