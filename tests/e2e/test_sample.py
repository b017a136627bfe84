# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Sampling (--engine sample). The witness is the program: it knows how much CPU time its functions
had, and which stacks it can have at all: one that never existed is an error, however rare."""
import ast
import collections
import gzip
import json
import os
import re
import signal
import subprocess
import time

from harness import interpreters, process, trace
from harness.runner import each
import test_jit

HZ = 1999
PERIOD_NS = 1000000000 // HZ
SIGMAS, SLACK = 6, 0.1  # of all: a virtual CPU that stands still has CPU time, but no clock
MISSING = ("between two frames", "not known", "outer frames missing")
HOME = ("<module>", "main", "workload")  # of drive.py and shares.py
NUMBERS = [("consume", "numbers"), ("consume", "doubled"), ("consume", "doubled", "numbers")]
THROUGH = [("through_c",), ("through_c", "mapped"), ("through_c", "<lambda>")]
WORK = [("work",)] + [("work", name) for name in ("heavy", "middle", "light")]
WORK += [w + ("note",) for w in WORK[1:]]
CALLS = [("calls",), ("calls", "note"), ("calls", "consume"), ("calls", "made")]
CALLS += [("calls", *rest) for rest in NUMBERS + THROUGH]
CALLS += [("calls", "deeper", *rest) for rest in [()] + THROUGH]
CALLS += [("calls",) + ("recurse",) * n for n in range(1, 32)]
LINED = [("lined", "following"), ("lined",)] + [
    ("lined", name, *rest) for name in ("spin", "spinning")
    for rest in ((), ("following",), ("note_line",))]
CALLS += [("calls", "made", "<module>")] + [("calls", "made", "f", *rest)
                                            for rest in ((), ("one",), ("two",))]
LEGAL = {HOME + rest for rest in [()] + WORK + CALLS + LINED}
LEGAL |= {HOME[:1], HOME[:2], ("<module>", "main", "say")}


def frame(text):
    """("f", "/x.py") of "outer.<locals>.f (/x.py:3)"."""
    name, _, place = text.partition(" (")
    name = name.split(".")[-1] if "." in name else name
    return name, place.rpartition(":")[0]


def folded(path):
    """Counter of (process, ((function, file), ..))"""
    stacks = collections.Counter()
    with open(path) as file:
        for line in file:
            text, _, count = line.rstrip("\n").rpartition(" ")
            first, *rest = text.split(";")
            stacks[first, tuple(frame(f) for f in rest)] += int(count)
    return stacks


def is_legal(stack):
    """The thread's own code, and that which makes it, is threading's."""
    if stack[0][0].startswith("["):
        inner = tuple(name for name, _ in stack[1:])
        return any(legal[len(legal) - len(inner):] == inner for legal in LEGAL)
    for name, file in stack:
        if file.startswith("<made ") and file[6:-1] != name and name not in ("f", "<module>"):
            return False
    names = [name for name, file in stack if not file.endswith(("threading.py", "_weakrefset.py"))]
    if len(names) < len(stack) and stack[0][0] == "_bootstrap":
        return tuple(names) in [()] + WORK
    if "/json/" in stack[-1][1]:
        return tuple(names[:2]) == HOME[:2]  # drive.py says what the program said
    return tuple(names) in LEGAL


def check_parts(t, leaves, parts):
    """Each part has as many of the samples as of the time."""
    total, spent = sum(leaves.values()), sum(parts.values())
    t.check(total <= 1.2 * spent / PERIOD_NS + 20, "%d samples of %d ns", total, spent)
    for name, ns in parts.items():
        share = ns / spent
        off = abs(leaves[name] - share * total)
        bound = SIGMAS * (total * share * (1 - share)) ** 0.5 + SLACK * total
        t.check(off <= bound, "%s has %d of %d samples, and %.3f of the time", name, leaves[name],
                total, share)


def check_shares(t, stacks, parts):
    leaves = collections.Counter()
    for (_, stack), count in stacks.items():
        for name, _ in stack:
            if name in parts:
                leaves[name] += count
                break
    t.check(sum(leaves.values()) >= 200, "only %s samples", leaves)
    check_parts(t, leaves, parts)


def source_lines():
    """Of shares.py, by its syntax: the lines of each function, and those in which it names another
    one: {function: lines}, {(function, other): lines}."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs/shares.py")
    with open(path) as file:
        tree = ast.parse(file.read())
    lines, names = {}, collections.defaultdict(set)
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        lines[function.name] = range(function.lineno, function.end_lineno + 1)
        for node in ast.walk(function):
            if isinstance(node, ast.Name):
                names[function.name, node.id].add(node.lineno)
    return lines, names


def check_lines(t, path, parts, jit=False):
    """Each frame stands in a line of its function, and where it waits for a call, in that of the
    call; lines have their shares. In code of the JIT the innermost frame has none."""
    lines, names = source_lines()
    seen, missing, total = collections.Counter(), 0, 0
    with open(path) as file:
        stacks = [line.rstrip("\n").rpartition(" ") for line in file]
    for text, _, count in stacks:
        frames = [re.fullmatch(r"(\S+) \((.*?)(?::(\d+))?\)", f) for f in text.split(";")[1:]]
        # a name is that of a function of shares.py, or the file is another one's
        frames = [(m[1], int(m[3] or 0)) if m and m[2].endswith("/shares.py") and m[1] in lines
                  else None for m in frames]
        for at, (frame, inner) in enumerate(zip(frames, frames[1:] + [None])):
            if not frame:
                continue
            last = at == len(frames) - 1
            total += int(count)
            missing += 0 if frame[1] else int(count)
            t.check(not jit or not last or not frame[1], "a line in code of the JIT: %s", text)
            legal = names.get((frame[0], inner[0])) if inner else None
            t.check(not frame[1] or frame[1] in (legal or lines[frame[0]]), "%s is not in %s", frame,
                    text)
        seen[" ".join("%s:%d" % f for f in frames if f and f[0] in ("lined", "spin", "spinning"))
             if frames[-1] else ""] += int(count)
    if not jit:
        t.check(missing <= 2 + total // 100, "%d of %d frames have no line", missing, total)
        check_parts(t, {part: seen[part] for part in parts}, parts)


def check_spans(t, document, total):
    """Sampled slices nest, are no calls, and have all samples."""
    spans = [e for e in document["traceEvents"] if e["ph"] == "X"]
    t.equal({e["cat"] for e in spans}, {"python_sample"}, "categories")
    t.equal(sum(e["args"]["self samples"] for e in spans), total, "samples in spans")
    t.equal(document["pytrace-bpf summary"]["samples"], total, "samples in the summary")
    threads = collections.defaultdict(list)
    for e in spans:
        threads[e["pid"], e["tid"]].append((e["ts"], e["ts"] + e["dur"], e["args"]["samples"]))
    for slices in threads.values():
        open_ = []
        for begin, end, samples in sorted(slices):
            while open_ and open_[-1][0] <= begin:
                open_.pop()
            if open_:
                t.check(end < open_[-1][0], "slices overlap at %d", begin)
                t.check(samples <= open_[-1][1], "more samples than its caller at %d", begin)
            open_.append((end, samples))


def check_speedscope(t, path, stacks):
    """As its schema has it, and the same stacks."""
    with open(path) as file:
        document = json.load(file)
    frames = document["shared"]["frames"]
    seen = collections.Counter()
    t.equal(document["$schema"], "https://www.speedscope.app/file-format-schema.json", "schema")
    for profile in document["profiles"]:
        t.equal((profile["type"], profile["unit"]), ("sampled", "nanoseconds"), "profile")
        t.equal(len(profile["samples"]), len(profile["weights"]), "samples and weights")
        t.equal(sum(profile["weights"]), profile["endValue"] - profile["startValue"], "weights")
        for sample, weight in zip(profile["samples"], profile["weights"]):
            stack = tuple((frames[i]["name"].split(".")[-1], frames[i].get("file", ""))
                          for i in sample)
            t.check(weight % PERIOD_NS == 0 and weight > 0, "weight %d", weight)
            seen[stack] += weight // PERIOD_NS
    expected = collections.Counter()
    for (_, stack), count in stacks.items():
        expected[stack] += count
    t.equal(seen, expected, "speedscope's stacks")


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at


def message(data):
    """{field: [values]} of a message on the wire: numbers, or bytes."""
    fields, at = collections.defaultdict(list), 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        elif key & 7:
            raise ValueError("wire type %d" % (key & 7))
        fields[key >> 3].append(value)
    return fields


def packed(items):
    """Of a repeated number, packed or not."""
    numbers = []
    for item in items:
        at = 0
        while isinstance(item, bytes) and at < len(item):
            number, at = varint(item, at)
            numbers.append(number)
        if not isinstance(item, bytes):
            numbers.append(item)
    return numbers


class Pprof:
    """As profile.proto of pprof has it, by its field numbers; nothing of ours."""

    def __init__(self, path):
        with gzip.open(path) as file:
            profile = message(file.read())
        self.texts = [text.decode() for text in profile[6]]
        self.types = [tuple(self.texts[message(one)[n][0]] for n in (1, 2)) for one in profile[1]]
        self.functions = {m[1][0]: m for m in map(message, profile[5])}
        self.locations = {m[1][0]: m for m in map(message, profile[4])}
        self.mappings = {m[1][0]: m for m in map(message, profile[3])}
        self.period, self.duration = profile[12][0], profile[10][0]
        self.samples = [message(one) for one in profile[2]]

    def frame(self, location):
        function = self.functions[message(self.locations[location][4][0])[1][0]]
        return tuple(self.texts[(function[n] or [0])[0]] for n in (2, 4))

    def stack(self, sample):
        return tuple(self.frame(number) for number in reversed(packed(sample[1])))

    def innermost(self):
        """(function, file), line and samples, one by one."""
        for sample in self.samples:
            location = packed(sample[1])[0]
            line = message(self.locations[location][4][0])
            yield self.frame(location), (line[2] or [0])[0], packed(sample[2])[0]

    def labels(self, sample):
        labels = map(message, sample[3])
        return {self.texts[m[1][0]]: m[3][0] if m[3] else self.texts[m[2][0]] for m in labels}


def check_pprof(t, path, stacks, pid):
    """The same stacks, of this process."""
    profile = Pprof(path)
    t.equal(profile.texts[0], "", "the first text")
    t.equal(profile.types, [("samples", "count"), ("cpu", "nanoseconds")], "types")
    t.equal(profile.period, PERIOD_NS, "period")
    seen = collections.Counter()
    for sample in profile.samples:
        count, ns = packed(sample[2])
        labels = profile.labels(sample)
        t.equal(ns, count * PERIOD_NS, "time of %d samples" % count)
        t.equal((labels["pid"], set(labels)), (pid, {"pid", "tid", "thread"}), "labels")
        stack = profile.stack(sample)
        seen[tuple((name.split(".")[-1], file) for name, file in stack)] += count
    t.check(all(m[2][0] in profile.mappings for m in profile.locations.values()), "mappings")
    expected = collections.Counter()
    for (_, stack), count in stacks.items():
        expected[stack] += count
    t.equal(seen, expected, "pprof's stacks")


def lines_of(path):
    """Counter of (function, line), of the innermost frames with a line."""
    lines = collections.Counter()
    for sample in Pprof(path).innermost():
        if sample[1]:
            lines[sample[0], sample[1]] += sample[2]
    return lines


def check_reports(t, stacks, names, lines):
    own = collections.Counter()
    for (_, stack), count in stacks.items():
        own[stack[-1]] += count
    for name in names:
        report = json.loads(process.run_tool("report", t.path(name), "--top", "1000", "--json")[0])
        t.equal(report["samples"], sum(own.values()), "samples in the report of %s" % name)
        got = collections.Counter()
        for row in report["by_samples"]:
            got[row["name"].split(".")[-1], row["file"]] += row["self_samples"]
            t.check(row["self_samples"] <= row["total_samples"] <= report["samples"], "%s", row)
        t.equal(+got, own, "own samples in the report of %s" % name)
        got = collections.Counter()
        for row in report["by_lines"]:
            got[(row["name"], row["file"]), row["line"]] += row["self_samples"]
        t.equal(got, lines, "lines in the report of %s" % name)


def record(t, target, name, *options):
    """Samples of all that the target does, into a file; what it says of that."""
    tracer = process.Tracer("-p", target.pid, "--engine", "sample", "-F", HZ, *options, "-o",
                            t.path(name))
    tracer.recording()
    target.go()
    said = target.done()
    t.has(tracer.expect(0, stop=True), "samples", "nothing lost")
    t.equal(target.finish(), 0, "exit status of the target")
    return said


@each(interp=interpreters.every)
def test_samples(t, interp):
    """Each function has its share of the samples; no stack is one that the program cannot have; all
    outputs say the same."""
    target = process.Target(interp, "shares", "200")
    parts = record(t, target, "a.ptcap")
    for name in ("a.json", "a.folded", "a.speedscope.json", "a.pb.gz"):
        process.run_tool("replay", t.path("a.ptcap"), "-o", t.path(name))
    process.run_tool("replay", t.path("a.ptcap"), "--lines", "-o", t.path("lines.folded"))
    stacks = folded(t.path("a.folded"))
    total = sum(stacks.values())
    wrong = [(stack, count) for (_, stack), count in stacks.items() if not is_legal(stack)]
    t.check(not wrong, "stacks that cannot be: %s", wrong)
    missing = sum(count for (_, stack), count in stacks.items() if stack[0][0][1:-1] in MISSING)
    t.check(missing <= 5 + total // 50, "%d of %d samples are without frames", missing, total)
    check_shares(t, stacks, parts["functions"])
    check_lines(t, t.path("lines.folded"), parts["lines"])
    with open(t.path("a.json")) as file:
        check_spans(t, json.load(file, parse_float=trace._number), total)
    check_speedscope(t, t.path("a.speedscope.json"), stacks)
    check_pprof(t, t.path("a.pb.gz"), stacks, target.pid)
    check_reports(t, stacks, ("a.json", "a.ptcap"), lines_of(t.path("a.pb.gz")))


def test_sample_jit(t):
    """Code of the JIT does not keep the line that it executes; callers have theirs."""
    target = process.Target(test_jit.one(), "shares", "100", env=test_jit.environment("1"))
    parts = record(t, target, "j.folded", "--lines")
    check_lines(t, t.path("j.folded"), parts["lines"], jit=True)


def test_sample_processes(t):
    """Children by fork and by exec have samples of their own frames; the recording ends with them."""
    interp = interpreters.one()
    command = process.drive_command(interp, "shares", "200", "family", options=("--go", "--exit"))
    tracer = process.Tracer("-v", "--engine", "sample", "-F", HZ, "-o", t.path("a.folded"), "--",
                            *command, stdin=subprocess.PIPE)
    pid = tracer.out.wait("executed", "the program").split()[1]
    tracer.err.wait("process %s is traced from now on" % pid, "pytrace-bpf")
    tracer.popen.stdin.write(b"x")
    tracer.popen.stdin.close()
    tracer.expect(0)
    children = json.loads(tracer.out.text().partition("done ")[2])
    stacks = collections.defaultdict(collections.Counter)
    for (who, stack), count in folded(t.path("a.folded")).items():
        stacks[int(who.split()[-1])][tuple(name for name, _ in stack)] += count
    t.equal(len(stacks), 3, "processes")
    for name, above in (("forked", HOME + ("family", "work")), ("executed", ("<module>", "work"))):
        own = stacks[children[name]]
        for function in ("heavy", "middle"):
            t.check(own[above + (function,)] > 0, "%s: no sample in %s: %s", name, function, own)
        t.check(not any(stack[:len(above)] != above for stack in own if "work" in stack),
                "%s: %s", name, own)


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as file:
        return sum(int(x) for x in file.read().rpartition(")")[2].split()[11:13])


def works(pid):
    """Until it had a tenth of a second more of CPU time."""
    until = cpu_ticks(pid) + os.sysconf("SC_CLK_TCK") // 10
    process.wait_until(lambda: cpu_ticks(pid) >= until, "the target's work")


def test_sample_stopped(t):
    """A stopped process has no samples, and what it was in does not go on meanwhile; the target
    is killed, and the recording ends."""
    interp = interpreters.one()
    target = process.Target(interp, "shares", "1", "forever")
    tracer = process.Tracer("-p", target.pid, "--engine", "sample", "-F", HZ, "-o",
                            t.path("a.json"))
    tracer.recording()
    target.go()
    works(target.pid)
    target.popen.send_signal(signal.SIGSTOP)
    process.wait_until(lambda: target.state() == "T", "the stop")
    since = time.monotonic_ns()
    time.sleep(0.2)
    until = time.monotonic_ns()
    target.popen.send_signal(signal.SIGCONT)
    works(target.pid)
    target.kill()
    tracer.expect(0)
    with open(t.path("a.json")) as file:
        document = json.load(file, parse_float=trace._number)
    base = monotonic(document)
    spans = [(e["ts"] + base, e["ts"] + e["dur"] + base) for e in document["traceEvents"]
             if e["ph"] == "X"]
    before = [s for s in spans if s[0] < since]
    after = [s for s in spans if s[0] >= since]
    t.check(before and after, "%d and %d slices", len(before), len(after))
    t.check(all(end < since for _, end in before), "goes on in a stop")
    t.check(all(begin > until - PERIOD_NS for begin, _ in after), "begins in a stop")


NATIVE_GAP = ("[native frames that are not known]", "")


@each(version=("3.8", "3.11", "3.13"))
def test_sample_native(t, version):
    """--native: the Python frames among the native ones are a stack that the program can have; the
    C function that sum() is lies above the function that calls it; all begins where programs do."""
    target = process.Target(interpreters.one(version), "shares", "100")
    tracer = process.Tracer("-p", target.pid, "--engine", "sample", "--native", "-F", HZ, "-o",
                            t.path("n.folded"))
    tracer.recording()
    target.go()
    target.done()
    t.has(tracer.expect(0, stop=True), "samples", "nothing lost")
    t.equal(target.finish(), 0, "exit status of the target")
    stacks = folded(t.path("n.folded"))
    total, whole, sums, started = sum(stacks.values()), 0, 0, 0
    for (_, stack), count in stacks.items():
        python = [f for f in stack if f[1] or f[0].startswith("<")]
        t.check(not python or is_legal(python) or ("[Python frames that are not known]", "") in
                stack, "cannot be: %s", stack)
        if NATIVE_GAP in stack:
            continue
        whole += count
        started += count * (stack[0] not in python and not stack[0][0].startswith("["))
        last = max((i for i, f in enumerate(stack) if f in python), default=0)
        if stack[last][0] in ("heavy", "middle", "light"):
            sums += count * any("sum" in name for name, _ in stack[last + 1:])
    t.check(total >= 100 and whole >= 0.8 * total, "%d of %d samples are whole", whole, total)
    t.check(started >= 0.9 * whole, "%d of %d begin where a thread does", started, whole)
    t.check(sums >= 0.2 * total, "%d of %d samples are in sum()", sums, total)


def monotonic(document):
    """What to add to the trace's times."""
    return document["baseTimeNanoseconds"] - (time.time_ns() - time.monotonic_ns())


def around(spans, span):
    """The innermost sampled slice that the span lies in."""
    fit = [s for s in spans if s["tid"] == span["tid"] and s["ts"] <= span["ts"] and
           s["ts"] + s["dur"] >= span["ts"] + span["dur"]]
    return min(fit, key=lambda s: s["dur"], default=None)


def check_waits(t, document, waits, pid):
    """Each wait is there, where and as long as the program saw it; and the one that lasts."""
    base, slack = monotonic(document), 2000000
    events = [e for e in document["traceEvents"] if e["ph"] == "X"]
    t.equal({e["cat"] for e in events}, {"python_sample", "off_cpu"}, "categories")
    spans = [e for e in events if e["cat"] == "python_sample"]
    blocks = [e for e in events if e["cat"] == "off_cpu"]
    for wait in waits:
        fit = [b for b in blocks if b["tid"] == wait["tid"] and
               b["ts"] + base <= wait["seen"] + slack and
               b["ts"] + b["dur"] + base >= wait["until"] - slack]
        t.equal([b["name"] for b in fit], ["blocked: " + wait["call"]], "blocks of %s" % wait)
        where = around(spans, fit[0])
        t.check(where and where["name"].endswith(": " + wait["function"]), "%s is in %s", wait,
                where)
        t.check(where["args"]["blocked ns"] >= fit[0]["dur"], "%s", where)
    last = max((b for b in blocks if b["tid"] == pid), key=lambda b: b["ts"])
    end = max(e["ts"] + e["dur"] for e in events)
    t.equal(last["name"], "blocked: read", "the main thread, in the end")
    t.check(last["ts"] + last["dur"] >= end - slack, "ends before the recording does")
    t.check(around(spans, last)["name"].endswith(": main"), "the main thread, in the end")
    for b in blocks:
        t.check(b["dur"] >= 499000, "shorter than --min-block: %s", b)
        t.check(not any(c is not b and c["tid"] == b["tid"] and c["ts"] <= b["ts"] and
                        b["ts"] < c["ts"] + c["dur"] for c in blocks), "overlaps: %s", b)
    return blocks


def check_blocked_formats(t, blocks, samples):
    """CPU time and blocked time never in one number, and the same ones everywhere."""
    total = sum(b["dur"] for b in blocks)
    stacks = folded(t.path("b.folded"))
    off = {key: us for key, us in stacks.items() if key[1][-1][0].startswith("[blocked: ")}
    near = len(off) + len(blocks) / 50  # of us; boundaries are a nanosecond or some apart
    t.check(abs(sum(off.values()) - total / 1000) <= near, "folded: %d us", sum(off.values()))
    t.check(abs(sum(stacks.values()) - sum(off.values()) - samples * PERIOD_NS / 1000) <=
            len(stacks), "folded: CPU time")
    profile = Pprof(t.path("b.pprof"))
    t.equal([name for name, _ in profile.types], ["samples", "cpu", "blocked", "off-cpu"], "types")
    sums = [0, 0, 0, 0]
    for sample in profile.samples:
        values = packed(sample[2])
        blocked = profile.stack(sample)[-1][0].startswith("[blocked: ")
        t.check(not any(values[:2] if blocked else values[2:]), "mixed: %s", values)
        sums = [a + b for a, b in zip(sums, values)]
    t.equal(sums[:3], [samples, samples * PERIOD_NS, len(blocks)], "pprof's sums")
    t.check(abs(sums[3] - total) <= 1000 * len(blocks), "pprof: %d ns of %d", sums[3], total)
    with open(t.path("b.speedscope.json")) as file:
        profiles = json.load(file)["profiles"]
    t.equal(sum(p["endValue"] for p in profiles if p["name"].endswith(", blocked")), sums[3],
            "speedscope's blocked time")
    t.equal(sum(p["endValue"] for p in profiles if not p["name"].endswith(", blocked")), sums[1],
            "speedscope's CPU time")


def test_sample_off_cpu(t):
    """--off-cpu: each wait that the program saw, in its function and system call, at its time."""
    interp = interpreters.one()
    target = process.Target(interp, "waits", "2")
    tracer = process.Tracer("-p", target.pid, "--engine", "sample", "-F", HZ, "--off-cpu",
                            "--min-block", "500us", "-o", t.path("b.ptcap"))
    tracer.recording()
    target.go()
    waits = target.done()
    target.rests("read")
    time.sleep(0.01)  # longer than --min-block, once it was seen to wait
    t.has(tracer.expect(0, stop=True), "nothing lost")
    for name in ("b.json", "b.folded", "b.pprof", "b.speedscope.json"):
        process.run_tool("replay", t.path("b.ptcap"), "-o", t.path(name))
    t.equal(target.finish(), 0, "exit status of the target")
    with open(t.path("b.json")) as file:
        document = json.load(file, parse_float=trace._number)
    blocks = check_waits(t, document, waits, target.pid)
    t.equal(document["pytrace-bpf summary"]["times blocked"], len(blocks), "times blocked")
    for name in ("b.json", "b.ptcap"):
        report = json.loads(process.run_tool("report", t.path(name), "--top", "99", "--json")[0])
        near = 1000 * len(blocks)  # boundaries in the trace are a nanosecond or some apart
        t.check(abs(report["blocked_ns"] - sum(b["dur"] for b in blocks)) <= near, "%s", report)
        waited = {row["name"]: row["self_blocked_ns"] for row in report["by_blocked"]}
        t.equal(sum(waited.values()), report["blocked_ns"], "blocked time in the report")
        t.check(all(waited[wait["function"]] >= 20000000 for wait in waits), "%s", waited)
    check_blocked_formats(t, blocks, document["pytrace-bpf summary"].get("samples", 0))


SLOTS = 512  # of native stacks of blocked threads (PT_OFF_CPU_STACKS)
WAITS = {"wait_read": ("os_read", "read"), "wait_lock": ("PyThread_acquire_lock_timed", "futex"),
         "wait_child": ("os_waitpid", "wait4")}


@each(version=("3.8", "3.12"))
def test_sample_off_cpu_native(t, version):
    """--native with --off-cpu: each wait has the C function in which it is, within the function that
    called that; likewise what still waits at the end. Slots are used again."""
    target = process.Target(interpreters.one(version), "waits", "2", str(SLOTS + 100))
    tracer = process.Tracer("-p", target.pid, "--engine", "sample", "--native", "--off-cpu",
                            "--min-block", "10ms", "--buffer", "64M", "-o", t.path("n.folded"))
    tracer.recording()
    target.go()
    waits = target.done()
    target.rests("read")
    time.sleep(0.02)  # longer than --min-block, once it was seen to wait
    t.has(tracer.expect(0, stop=True), "nothing lost")
    t.equal(target.finish(), 0, "exit status of the target")
    spent = collections.Counter()
    for (_, stack), us in folded(t.path("n.folded")).items():
        names = [name for name, _ in stack]
        for function, (inside, call) in [*WAITS.items(), ("main", ("os_read", "read"))]:
            if function in names and inside in names[names.index(function):] and \
                    names[-1] == "[blocked: %s]" % call and NATIVE_GAP not in stack:
                spent[function] += us
    seen = collections.Counter()
    for wait in waits:
        seen[wait["function"]] += (wait["until"] - wait["seen"]) // 1000
    for function, us in seen.items():
        t.check(spent[function] >= us, "%s is seen for %d us of %d", function, spent[function], us)
    t.check(spent["main"] >= 10000, "what waits at the end: %s", spent)


def test_sample_refuses(t):
    """What needs probes is no option of it; what holds samples needs them."""
    pid = os.getpid()
    for options, text in (
            (("--engine", "sample", "--gc"), "--gc needs an exact engine"),
            (("--engine", "sample", "--c-functions", "all"), "--c-functions needs an exact engine"),
            (("-F", "99"), "-F goes with --engine sample"),
            (("-o", t.path("a.folded")), "needs --engine sample"),
            (("--engine", "sample", "-F", "10001"), "too large"),
            (("--native",), "--native goes with --engine sample"),
            (("--off-cpu",), "--off-cpu goes with --engine sample"),
            (("--engine", "sample", "--min-block", "1ms"), "--min-block goes with --off-cpu"),
            (("--engine", "sample", "-o", t.path("a.txt")), "no known suffix")):
        t.has(process.run_tool("-p", pid, *options, code=2)[1], text)
