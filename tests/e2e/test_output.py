# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Options, formats and verbs: what a user gets."""
import gzip
import json
import os
import re

from harness import compare, interpreters, process, trace
from harness.runner import each


def record(t, *options, program="churn", args=("20",), name="trace.json", minor=None):
    """Attaches to a program, runs it; returns (trace, what was said, the target's pid)."""
    interp = interpreters.one(minor)
    target = process.Target(interp, program, *args)
    tracer = process.Tracer("-p", target.pid, "-o", t.path(name), *options)
    tracer.recording()
    target.go()
    target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return (trace.load(t.path(name)) if ".json" in name else None), text, target.pid


def counts(text):
    """(events, threads) of a summary."""
    found = re.search(r"([\d,]+) events(?: of|,) (\d+) threads", text)
    return int(found.group(1).replace(",", "")), int(found.group(2))


def shape(got):
    """What two traces of one recording must share: all slices with their times."""
    return sorted((s.event["pid"], s.event["tid"], s.begin, s.end, s.key) for s in got.slices())


def test_default_name(t):
    """pytrace-COMM-PID.json.gz in the current folder."""
    interp = interpreters.one()
    target = process.Target(interp, "churn", "3")
    tracer = process.Tracer("-p", target.pid, cwd=t.folder)
    tracer.recording()
    target.go()
    target.done()
    text = tracer.expect(0, stop=True)
    target.finish()
    files = [f for f in os.listdir(t.folder) if f != "log"]
    t.equal(len(files), 1, "files: %s" % files)
    t.check(re.fullmatch(r"pytrace-python3[.0-9]*-%d\.json\.gz" % target.pid, files[0]),
            "its name is %s", files[0])
    t.has(text, files[0])
    trace.load(t.path(files[0]))


def test_messages(t):
    """One line when the gate opens, a summary at the end, and nothing on stdout."""
    interp = interpreters.one()
    target = process.Target(interp, "churn", "3")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    line = tracer.recording()
    t.check(re.match(r"pytrace-bpf: recording .*%d.*engine (frame|usdt), \d+ probes" % target.pid,
                     line), "the first line is %r", line)
    target.go()
    target.done()
    text = tracer.expect(0, stop=True)
    target.finish()
    t.has(text, "events", "threads", "lost", t.path("trace.json"))
    t.equal(tracer.out.text(), "", "stdout")


def test_quiet(t):
    interp = interpreters.one()
    target = process.Target(interp, "churn", "3")
    _, err = process.run_tool("-p", target.pid, "-q", "-d", "100ms", "-o", t.path("trace.json"))
    t.equal(err, "", "stderr with -q")
    trace.load(t.path("trace.json"))
    target.kill()


def test_log_json(t):
    interp = interpreters.one()
    target = process.Target(interp, "churn", "3")
    _, err = process.run_tool("-p", target.pid, "--log-json", "-v", "-d", "100ms", "-o",
                              t.path("trace.json"))
    for line in err.splitlines():
        t.equal(sorted(set(json.loads(line)) & {"time", "level", "message"}),
                ["level", "message", "time"], "keys of a log line")
    t.check(len(err.splitlines()) >= 2, "only %d lines", len(err.splitlines()))
    target.kill()


def test_same_in_every_format(t):
    """A capture replayed equals, slice by slice, whatever is made of it."""
    _, text, pid = record(t, name="trace.ptcap", program="threads", args=("5",))
    for name in ("a.json", "b.json.gz"):
        _, replayed = process.run_tool("replay", t.path("trace.ptcap"), "-o", t.path(name))
        t.equal(counts(text), counts(replayed), "events and threads in the two summaries")
    first, second = trace.load(t.path("a.json")), trace.load(t.path("b.json.gz"))
    t.check(first.count > 1000, "only %d slices", first.count)
    t.equal(shape(first), shape(second), "slices")
    with open(t.path("a.json"), "rb") as plain, gzip.open(t.path("b.json.gz")) as packed:
        t.check(packed.read().replace(b"b.json.gz", b"a.json") == plain.read(),
                "the bytes differ by more than the name")
    interp = interpreters.one()
    oracle = compare.Oracle(process.run_oracle(interp, "threads", "5", folder=t.folder))
    compare.compare(oracle, first, pid)


def test_replay_needs_no_root(t):
    record(t, name="trace.ptcap")
    os.chmod(t.folder, 0o777)
    os.chmod(t.path("trace.ptcap"), 0o644)
    tool = t.path("pytrace-bpf")
    process.shutil.copy2(process.TOOL, tool)
    process.subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", tool,
                            "replay", t.path("trace.ptcap"), "-o", t.path("x.json")], check=True,
                           timeout=60)
    t.equal(trace.load(t.path("x.json")).counts()["run_text"], 20, "slices of run_text()")


def test_live_equals_replay(t):
    """The same program live and by way of a capture gives the same call trees."""
    live, _, pid = record(t, program="callforms", args=())
    _, _, other = record(t, program="callforms", args=(), name="trace.ptcap")
    process.run_tool("replay", t.path("trace.ptcap"), "-o", t.path("replayed.json"))
    replayed = trace.load(t.path("replayed.json"))
    t.equal(compare.threads_of_trace(live, pid, (3, 12)),
            compare.threads_of_trace(replayed, other, (3, 12)), "call trees")


def test_stdout(t):
    """-o - writes plain JSON to stdout, and nothing else."""
    interp = interpreters.one()
    target = process.Target(interp, "churn", "20")
    path = t.path("stdout")
    with open(path, "wb") as file:
        tracer = process.Tracer("-p", target.pid, "-o", "-", stdout=file)
        tracer.recording()
        target.go()
        target.done()
        tracer.expect(0, stop=True)
    target.finish()
    t.equal(trace.load(path).counts()["run_text"], 20, "slices of run_text()")


@each(minor=["3.8", "3.12"])
def test_include_file(t, minor):
    got, _, _ = record(t, "--include-file", "*/churn.py", minor=minor)
    files = {s.file for s in got.slices()}
    t.equal({os.path.basename(f) for f in files}, {"churn.py"}, "files in the trace")
    t.equal(len(got.named("workload")), 1, "slices of workload()")
    runs = [s for s in got.slices() if s.name == "run_text"]
    t.equal(len(runs), 20, "slices of run_text()")


def test_exclude_file(t):
    got, _, _ = record(t, "--exclude-file", "/made/up/*", "--exclude-file", "<frozen*")
    files = {s.file for s in got.slices()}
    t.check(not [f for f in files if f.startswith("/made/up") or f.startswith("<frozen")],
            "files in the trace: %s", files)
    t.equal(len(got.named("run_text")), 20, "slices of run_text()")
    t.equal(len(got.named("value")), 5, "slices of value()")


def test_max_stack_depth(t):
    """Deeper calls are left out, and what is left is right."""
    got, _, _ = record(t, "--max-stack-depth", "5", program="callforms", args=())
    deepest = 0
    for roots in got.threads.values():
        stack = [(r, 1) for r in roots]
        while stack:
            s, depth = stack.pop()
            deepest = max(deepest, depth)
            stack.extend((c, depth + 1) for c in s.children)
    t.equal(deepest, 5, "depth of the trace")
    full, _, _ = record(t, program="callforms", args=())

    def cut(roots, left):
        return [(r.key, cut(r.children, left - 1)) for r in roots] if left else []
    t.equal([cut(x, 5) for x in got.threads.values()], [cut(x, 5) for x in full.threads.values()],
            "the upper five levels")


def test_min_duration(t):
    """Shorter slices are left out; those that are there are as long, and still nest."""
    got, _, _ = record(t, "--min-duration", "300ms", program="spin_once", args=("0.3",))
    for s in got.slices():
        t.check(s.end - s.begin >= 300_000_000, "%s lasts %d ns", s.name, s.end - s.begin)
    t.equal(got.counts().get("long_one"), 5, "slices of long_one()")
    t.equal(got.counts().get("short_one"), None, "slices of short_one()")


def test_max_events(t):
    """Recording ends by itself; the trace is balanced."""
    interp = interpreters.one()
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "2"))
    process.run_tool("-p", target.pid, "--max-events", "50000", "-o", t.path("trace.json"))
    got = trace.load(t.path("trace.json"))
    t.check(20000 <= got.count <= 27000, "%d slices of 50000 events", got.count)
    t.equal(target.finish(), 0, "exit status of the target")


@each(suffix=["json", "json.gz", "ptcap"])
def test_max_file_size(t, suffix):
    interp = interpreters.one()
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "2"))
    path = t.path("trace." + suffix)
    process.run_tool("-p", target.pid, "--max-file-size", "200K", "-o", path)
    size = os.path.getsize(path)
    # A capture's last chunk is counted before it is compressed.
    least = 20 if suffix == "ptcap" else 100
    t.check(least * 1024 <= size <= 200 * 1024, "the file has %d bytes", size)
    if suffix == "ptcap":
        process.run_tool("replay", path, "-o", t.path("trace.json"))
        path = t.path("trace.json")
    t.check(trace.load(path).count > 500, "hardly a slice")
    t.equal(target.finish(), 0, "exit status of the target")


@each(text=["500ms", "1s", "0.02m"])
def test_duration_units(t, text):
    seconds = {"500ms": 0.5, "1s": 1.0, "0.02m": 1.2}[text]
    interp = interpreters.one()
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "1", "0",
                                                                   "0.01"))
    process.run_tool("-p", target.pid, "-d", text, "-o", t.path("trace.json.gz"))
    got = trace.load(t.path("trace.json.gz"))
    spin, = got.named("spin")
    took = (spin.end - spin.begin) / 1e9
    t.check(seconds * 0.9 <= took <= seconds + 20, "-d %s recorded %.2f s", text, took)
    t.equal(target.finish(), 0, "exit status of the target")


def test_dry_run(t):
    """The probe plan is printed, nothing is attached and nothing written."""
    interp = interpreters.one()
    target = process.Target(interp, "churn", "3")
    before = process.text_of(target.pid)
    out, _ = process.run_tool("-p", target.pid, "--dry-run", cwd=t.folder)
    t.has(out, target.interpreter.version, "frame", str(target.pid))
    t.check(len(re.findall(r"0x[0-9a-f]+", out)) >= 6, "fewer than six sites:\n%s", out)
    t.equal(process.text_differences(before, process.text_of(target.pid)), 0, "bytes that differ")
    t.equal(os.listdir(t.folder), ["log"], "files")
    target.kill()


def test_version_and_help(t):
    out, _ = process.run_tool("--version")
    t.check(re.match(r"pytrace-bpf \d+\.\d+\.\d+", out), "--version says %r", out)
    out, _ = process.run_tool("--help")
    t.has(out, "-p", "-o", "--engine", "--max-stack-depth", "--min-duration", "--include-file",
          "--exclude-file", "--buffer", "--max-events", "--max-file-size", "--dry-run",
          "--no-follow", "--log-json", "check", "list", "replay", "report")


def test_list(t):
    """Every process that the test started, with its version and engine."""
    targets = [process.Target(i, "churn", "3") for i in interpreters.every()]
    out, _ = process.run_tool("list")
    for target in targets:
        rows = [line for line in out.splitlines() if str(target.pid) in line.split()]
        t.equal(len(rows), 1, "rows for %d in:\n%s" % (target.pid, out))
        t.has(rows[0], target.interpreter.version)
        t.check(" frame " in rows[0] or " usdt " in rows[0], "no engine in %r", rows[0])
        target.kill()


def test_check(t):
    out, _ = process.run_tool("check")
    t.has(out, "type information", "ring buffer", "uprobe", "attach cookies")
    target = process.Target(interpreters.one(), "churn", "3")
    out, _ = process.run_tool("check", "-p", target.pid)
    t.has(out, target.interpreter.version, "frame")
    target.kill()


@each(suffix=["json", "json.gz", "ptcap"])
def test_report(t, suffix):
    """Calls, total and self time of the functions agree with the trace."""
    record(t, name="trace." + suffix, program="callforms", args=())
    path = t.path("trace." + suffix)
    text, _ = process.run_tool("report", path)
    t.has(text, "calls", "total", "self", "fib")
    out, _ = process.run_tool("report", path, "--json")
    document = json.loads(out)
    if suffix == "ptcap":
        process.run_tool("replay", path, "-o", t.path("x.json"))
        path = t.path("x.json")
    got = trace.load(path)
    counts = {}
    for s in got.slices():
        counts[s.key] = counts.get(s.key, 0) + 1
    own, total = {}, {}
    for s in got.slices():
        own[s.key] = own.get(s.key, 0) + s.end - s.begin - sum(c.end - c.begin for c in s.children)
    for roots in got.threads.values():
        for root in roots:
            add_outermost(root, total)
    for field, expected in (("self_ns", own), ("total_ns", total)):
        functions = document["by_" + field[:-3]]
        t.check(len(functions) >= 10, "only %d functions", len(functions))
        values = [row[field] for row in functions]
        t.equal(values, sorted(values, reverse=True), "order by " + field)
        t.equal(values, sorted(expected.values(), reverse=True)[:len(values)], "the top by " + field)
        for row in functions:
            key = (row["file"], row["line"], row["name"])
            t.equal(row["calls"], counts[key], "calls of %s" % (key,))
            t.equal(row["self_ns"], own[key], "self time of %s" % (key,))
            t.equal(row["total_ns"], total[key], "total time of %s" % (key,))
    t.equal(document["calls"], got.count, "calls in all")


def add_outermost(root, total):
    """Total time counts a recursive function once, by its outermost call."""
    stack = [(root, frozenset())]
    while stack:
        s, above = stack.pop()
        if s.key not in above:
            total[s.key] = total.get(s.key, 0) + s.end - s.begin
            above = above | {s.key}
        stack.extend((c, above) for c in s.children)


def test_command_runs_as_the_invoking_user(t):
    """Under sudo the launched command is the user's, not root's."""
    os.chmod(t.folder, 0o777)
    env = process.environment(SUDO_UID="65534", SUDO_GID="65534", SUDO_USER="nobody")
    out, _ = process.run_tool("-o", t.path("trace.json"), "--", "/usr/bin/python3", "-c",
                              "import os; print(os.getuid(), os.geteuid(), os.getgid())", env=env)
    t.equal(out.strip(), "65534 65534 65534", "uid, euid and gid of the command")
    t.check(trace.load(t.path("trace.json")).count > 20, "hardly a slice")


def test_atomic(t):
    """While it records, nothing stands under the final name; an older file is replaced at the end."""
    path = t.path("trace.json")
    with open(path, "w") as file:
        file.write("old")
    interp = interpreters.one()
    target = process.Target(interp, "spin", command=process.script(interp, "spin.py", "1"))
    tracer = process.Tracer("-p", target.pid, "-o", path)
    tracer.recording()
    target.go()
    target.done()
    with open(path) as file:
        t.equal(file.read(), "old", "the older file while recording")
    tracer.expect(0, stop=True)
    t.check(trace.load(path).count > 100, "hardly a slice")
    t.equal(sorted(f for f in os.listdir(t.folder) if f != "log"), ["trace.json"], "files")
    t.equal(target.finish(), 0, "exit status of the target")


def test_unicode_terminal(t):
    """What stands in names cannot write control characters to a terminal through report."""
    record(t, name="trace.json", program="unicode_names", args=())
    out, _ = process.run_tool("report", t.path("trace.json"))
    t.check("\x01" not in out, "a control character in the report")
    t.equal([c for c in out if ord(c) < 32 and c not in "\n\t"], [], "control characters")
