# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--memory: what is left of CUDA memory, and every count, as the program itself knows it
(programs/cuda_storm.py), by way of a trace and of a capture."""
import collections
import json
import os
import pickle
import pickletools
import subprocess
import time

import test_stacks
import test_torch as torch_tests
from harness import interpreters, process, trace
from harness.runner import each, limit


def double(folder):
    library, version = os.path.join(folder, "memory.so"), os.path.join(folder, "version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-pthread",
                    os.path.join(process.PROGRAMS, "cuda_memory_double.c"),
                    "-Wl,--version-script=" + version, "-o", library], check=True)
    return library


def record(t, interp, out, *options, steps="400", what=(), limit_s=process.WAIT_S):
    target = process.Target(interp, "cuda_storm", steps, *what,
                            env=process.environment(CUDA_LIB=double(t.folder)))
    tracer = process.Tracer("-p", target.pid, "-o", t.path(out), *options)
    tracer.recording()
    target.go()
    result = target.done(limit_s)
    t.equal(target.finish(), 0, "exit status of the target")
    tracer.expect(0, limit_s)
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


SOAK_S = int(os.environ.get("PYTRACE_SOAK_S", "2"))


@limit(120 + 3 * SOAK_S)
def test_soak(t):
    """The same for a time, most often a short one; make soak takes ten minutes. What the trace keeps is
    bounded; the table at the end is exact all the same."""
    began = time.monotonic()
    pid, result = record(t, interpreters.one(), "trace.json.gz", "--memory", "--tracer-entries",
                         "100000", "--buffer", "512M" if SOAK_S > 10 else "64M", steps=str(SOAK_S), what=("soak",),
                         limit_s=60 + 2 * SOAK_S)
    report = memory_report(t, "trace.json.gz")
    t.equal((report["lost_events"], report["lost_records"]), (0, 0), "losses")
    check_process(t, of(report, pid), result["live"], result["counts"])
    print("%d allocations, %d frees in %d s; %.1f MB" % (
        result["counts"]["allocations"], result["counts"]["frees"], time.monotonic() - began,
        os.path.getsize(t.path("trace.json.gz")) / 1e6))


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
    t.has(text, "Memory of process %d, which has ended: " % pid)
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
    viz(t, roots[0], t.path("memory.pickle"))


def viz(t, interp, snapshot):
    """PyTorch's own program reads it; it is plain Python."""
    command = [interpreters.one().path, os.path.join(interp.root, VIZ)]
    for verb in ("stats", "trace"):
        done = subprocess.run([*command, verb, snapshot], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        t.equal(done.returncode, 0, "%s: %s" % (verb, done.stdout[-500:]))
    for verb in ("trace_plot", "segment_plot"):
        subprocess.run([*command, verb, snapshot, "-o", t.path("out.html")], check=True)
        t.has(open(t.path("out.html")).read(), "snapshot.pickle")


def changes(events):
    """(address, bytes) of each allocation, and of each free with less than no bytes."""
    sign = {"alloc": 1, "free_completed": -1}
    return [(e["addr"], sign[e["action"]] * e["size"]) for e in events if e["action"] in sign]


@limit(torch_tests.LIMIT_S)
def test_torch(t):
    """--torch-memory: what PyTorch's profiler says of the same training steps, byte by byte and in the
    same order; what is left, with the lines that allocated it; the snapshot is for PyTorch's viewer."""
    interp = torch_tests.with_torch()
    out = process.install_programs(interp) + "/torch-memory.json"
    target = process.Target(interp, "torch", command=process.script(interp, "torch_memory.py", out))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--torch-memory",
                            "--memory-history", t.path("memory.pickle"))
    tracer.recording(120)
    target.go()
    t.equal(target.popen.wait(180), 0, "exit status")
    text = tracer.expect(0)
    t.has(text, "nothing lost")
    t.check("--torch-memory" not in text and "--cuda" not in text, "it says:\n%s", text)
    with open(interp.root + out) as file:
        theirs = [tuple(e) for e in json.load(file)]
    got = history(t, "memory.pickle")
    t.equal(list(got["pytrace-bpf"]["devices"].values()), ["memory of the host"], "places")
    events, = got["device_traces"]
    ours = [c for c in changes(events) if abs(c[1]) != 777]  # another thread's, not profiled
    first = next(i for i, c in enumerate(ours) if c[1] == 123456)
    t.equal(theirs[0][1], 123456, "their first")
    t.equal(ours[first:first + len(theirs)], theirs, "what is allocated and freed")
    rows = of(memory_report(t, "trace.json"), target.pid)["still_allocated"]
    source = open(os.path.join(process.PROGRAMS, "torch_memory.py")).read().splitlines()
    left = {row["bytes"]: row for row in rows if name_of(row["stack"][0]).endswith(("kept", "listcomp>",
                                                                                  "<lambda>"))}
    t.equal({size: row["allocations"] for size, row in left.items()}, {2 * 54321: 2, 777: 1}, "left")
    for row in left.values():
        t.equal(row["kind"], "PyTorch host", "kind")
        line = int(row["stack"][0].rsplit(", line ", 1)[1])
        t.has(source[line - 1], "torch.empty(")
    viz(t, interp, t.path("memory.pickle"))
    tracks = {e["name"] for e in trace.load(t.path("trace.json")).events
              if e["ph"] == "C" and "memory" in e["name"]}
    t.equal(tracks, {"PyTorch memory: host"}, "tracks")
    print("%d allocations and frees, as PyTorch has them" % len(theirs))


def c10_double(folder, *flags):
    library = os.path.join(folder, "libc10_double.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", *flags,
                    os.path.join(process.PROGRAMS, "torch_blocks_double.c"), "-o", library], check=True)
    return library


def record_blocks(t, c10, *options):
    target = process.Target(interpreters.one(), "torch_blocks", env=process.environment(
        CUDA_LIB=double(t.folder), C10_LIB=c10))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("raw.ptcap"), "--torch-memory", *options)
    tracer.recording()
    target.go()
    result = target.done()
    t.equal(target.finish(), 0, "exit status of the target")
    return target.pid, result, tracer.expect(0)


def check_segments(t, got, result):
    """Each segment with its blocks and what lies between them, without gaps."""
    live = {address: size for address, size in result["live"]}
    found = {}
    for segment in got["segments"]:
        at = segment["address"]
        for block in segment["blocks"]:
            t.equal(block["address"], at, "a block begins where the last one ends")
            at += block["size"]
            if block["state"] == "active_allocated":
                found[block["address"]] = block["size"]
        t.equal(at, segment["address"] + segment["total_size"], "where the last block ends")
        t.equal(segment["allocated_size"],
                sum(b["size"] for b in segment["blocks"] if b["state"] == "active_allocated"), "bytes")
    stray, whole = {0x7e0000000000: 3 << 12}, {result["plain"]: 1 << 20}
    host = {i << 16: 100 + i for i in range(4, 8)}
    t.equal(found, {**live, **stray, **whole, **host}, "blocks")
    t.equal(sorted(s["address"] for s in got["segments"]),
            sorted([*result["segments"], result["emptied"], *stray, *whole, *host]), "segments")
    return live


def test_torch_blocks(t):
    """Blocks of PyTorch's allocator lie within the segments that CUDA gave out: in the snapshot, in the
    report, and in the tracks; frees that are wrong; what is not in a segment."""
    pid, result, text = record_blocks(t, c10_double(t.folder))
    t.check("--torch-memory" not in text, "it says:\n%s", text)
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"), "--memory-history",
                     t.path("memory.pickle"))
    got = history(t, "memory.pickle")
    t.equal(got["pytrace-bpf"]["devices"], {2: "device 2", 3: "memory of the host"}, "places")
    live = check_segments(t, got, result)
    left, segments = {}, 0
    for action, address, size in ((e["action"], e["addr"], e["size"]) for e in got["device_traces"][2]):
        segments += {"segment_alloc": 1, "segment_free": -1}.get(action, 0)
        if action == "alloc":
            t.check(address not in left, "given out twice: %x", address)
            left[address] = size
        elif action == "free_completed":
            t.equal(left.pop(address), size, "size of a free")
    t.equal(left, {**live, 0x7e0000000000: 3 << 12, result["plain"]: 1 << 20}, "what is left")
    t.equal(segments, len(got["segments"]) - 4, "segments that are left")
    found = of(memory_report(t, "raw.ptcap"), pid)
    t.equal({(r["kind"], r["device"]): r["bytes"] for r in found["in_use"]},
            {("device", 2): 4 << 20, ("PyTorch block", 2): sum(live.values()) + (3 << 12),
             ("PyTorch host", None): sum(100 + i for i in range(4, 8))}, "bytes in use")
    t.equal((found["calls"]["frees of unknown addresses"], found["calls"]["double frees"]), (1, 1),
            "wrong frees")
    tracks = {e["name"]: e["args"]["bytes"] for e in trace.load(t.path("trace.json")).events
              if e["ph"] == "C" and "memory" in e["name"]}
    t.equal(tracks["PyTorch memory: device 2"], sum(live.values()) + (3 << 12), "its track")
    for interp in interpreters.every():
        if interp.root and os.path.exists(interp.root + "/" + VIZ):
            viz(t, interp, t.path("memory.pickle"))
            break
    print("%d blocks are left" % len(live))


def test_torch_memory_refused(t):
    """A libc10 whose calls pass its symbols by: of the host's memory nothing is recorded, and that is
    said; of devices all is. Without PyTorch there is nothing."""
    library = c10_double(t.folder, "-Wl,-Bsymbolic")
    pid, result, text = record_blocks(t, library, "--cuda", "none")
    t.has(text, "is not called by its symbol")
    found = of(memory_report(t, "raw.ptcap"), pid)
    t.equal([r["kind"] for r in found["in_use"]], ["PyTorch block"], "kinds")
    t.equal(found["in_use"][0]["bytes"], sum(size for _, size in result["live"]) + (3 << 12), "bytes")
    interp = interpreters.one()
    _, err = process.run_tool("-o", t.path("trace.json"), "--torch-memory", "--",
                              *interp.command("-c", "pass"))
    t.has(err, "--torch-memory: the traced processes loaded no PyTorch")
    _, err = process.run_tool("-o", t.path("trace.json"), "--no-uprobe-multi", "--torch-memory", "--",
                              *interp.command("-c", "pass"))
    t.has(err, "--torch-memory: not recorded")


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
