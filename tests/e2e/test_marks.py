# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Probes of the user's (--probe, --nvtx): what the program says it marked is what the trace has; flows
from a fork to the child; --tracer-entries. programs/marklib.c is the library that is probed."""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess

from harness import interpreters, process, trace
from harness.runner import Skip, each, have

USAGE, FAILED = 2, 1
EVENT = "app_event(name:str,value:int,big:u64,where:ptr)"
COUNTER = "app_counter(name:str,value:long)=counter"
WORK = "app_work(depth:int)=slice"
OPEN, CLOSE = "app_open(name:str)=begin:phase", "app_close=end:phase"
TICK = "app:tick(text:str,number:int,memory:long,constant:int)"
GUARDED = "app:guarded(number:int)"
ONE_EACH = ["3.8", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]


def library(t, interp=None):
    """Builds it; (its path as the interpreter sees it, its path here)."""
    compiler = next((c for c in ("cc", "gcc", "clang-14", "clang-19") if have(c)), None)
    if not compiler:
        raise Skip("there is no C compiler")
    inside = process.install_programs(interp) if interp and interp.root else t.path(".")
    path = os.path.join(inside, "marklib.so")
    here = (interp.root or "") + path if interp else path
    subprocess.check_call([compiler, "-O2", "-shared", "-fPIC", "-nostdlib", "-o", here,
                           os.path.join(process.PROGRAMS, "marklib.c")])
    return path, here


def every_probe(path):
    return [word for spec in (EVENT, COUNTER, WORK, OPEN, CLOSE)
            for word in ("--probe", "uprobe:%s:%s" % (path, spec))] + \
           [word for spec in (TICK, GUARDED) for word in ("--probe", "usdt:%s:%s" % (path, spec))]


def check_marks(t, got, seen, pid):
    """All that the program did, in its order, with its values, and nothing else."""
    events = [[e["name"], e["args"]["value"], e["args"]["big"], e["args"]["where"]]
              for e in sorted(got.instants, key=lambda e: e["ts"]) if "big" in e["args"]]
    t.equal(events, seen["events"], "events")
    values = [e["args"]["value"] for e in sorted(got.events, key=lambda e: e.get("ts", 0))
              if e["ph"] == "C" and e["name"] == "queue"]
    t.equal(values, seen["counter"], "values of the counter")
    ticks = [[v for k, v in e["args"].items() if k not in ("stack", "called at")]
             for e in got.instants if e["name"] == "app:tick"]
    t.equal(ticks, seen["usdt"], "USDT probes")
    guarded = sum(e["name"] == "app:guarded" for e in got.instants)
    t.equal((guarded, seen["guarded"]), (30, 30), "USDT probes behind a semaphore")
    for tid in {r.event["tid"] for r in got.ranges}:
        names = [r.name for r in got.ranges if r.event["tid"] == tid]
        t.equal(names, ["outer"] + ["inner %d" % i for i in range(5)], "ranges of a thread")
    t.equal(len(got.ranges), len(seen["ranges"]), "ranges")
    check_work(t, got)
    t.equal(got.document["pytrace-bpf summary"]["damaged records"], 0, "damaged records")


def check_work(t, got):
    """Depths 1, 3, 100: each call within its caller's, and back() and leaf() within each."""
    spans = [s for s in got.spans_of("mark") if s.name == "app_work"]
    t.equal([s.args["depth"] for s in spans], [1] + [3, 2, 1] + list(range(100, 0, -1)), "closing")
    for s in spans:
        outer = s.parent
        while outer is not None and not (outer.name == "app_work"):
            outer = outer.parent
        t.equal(outer.args["depth"] if outer else None,
                None if s.args["depth"] in (1, 3, 100) and s in (spans[0], spans[1], spans[4])
                else s.args["depth"] + 1, "what depth %d lies in" % s.args["depth"])
        t.equal(s.args.get("end lost"), None, "lost end at depth %d" % s.args["depth"])
        inner = [c for c in s.children if c.is_call and c.name == "back"]
        t.equal(len(inner), 1, "callbacks at depth %d" % s.args["depth"])


def check_stacks(t, got):
    """Where each mark was made: the line of the program's own call of that function."""
    with open(os.path.join(process.PROGRAMS, "marks.py")) as file:
        lines = file.read().split("\n")
    frames = got.document["stackFrames"]
    marks = [e for e in got.instants if "big" in e["args"] or e["name"] == "app:tick"]
    marks += [r.event for r in got.ranges] + [s.event for s in got.spans_of("mark")]
    for e in marks:
        symbol = ("app_event" if "big" in e["args"] else "app_usdt" if e["name"] == "app:tick" else
                  "app_open" if e["ph"] == "b" else "app_work")
        at, python, native = str(e["sf"]), [], []
        while at:
            (python if frames[at]["category"] == "python" else native).append(frames[at]["name"])
            at = frames[at].get("parent")
        number = int(re.search(r"marks\.py\((\d+)\): ", python[0]).group(1))
        t.check("LIB.%s(" % symbol in lines[number - 1], "%s was called at line %d", symbol, number)
        t.check(re.search(r"marks\.py.*\b%d\b" % number, e["args"]["called at"]), "%s says %s",
                symbol, e["args"]["called at"])
        t.check(any(name.endswith(": workload") for name in python) or
                any("threading.py(" in name for name in python), "%s: %s", symbol, python)
        t.check(any(name.startswith("ffi_call (libffi") for name in native), "%s: %s", symbol, native)
    t.check(len(marks) > 100, "there are only %d", len(marks))
    t.check(not [e for e in got.events if e["ph"] == "C" and "sf" in e], "a counter has one")


@each(minor=ONE_EACH)
def test_all_kinds(t, minor):
    """With stacks, of some versions."""
    interp = interpreters.one(minor)
    stacks = minor in ("3.8", "3.11", "3.12", "3.15")
    path, _ = library(t, interp)
    target = process.Target(interp, "marks", env=process.environment(MARKLIB=path))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *every_probe(path),
                            *(["--stacks", "mark"] if stacks else []))
    tracer.recording()
    target.go()
    seen = target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    check_marks(t, got, seen, target.pid)
    if stacks:
        check_stacks(t, got)
    else:
        t.check("stackFrames" not in got.document, "there are stacks")


@each(follow=["exact", "late"])
def test_loaded_later(t, follow):
    """By its name: the library is found when it is loaded; likewise for this process alone."""
    interp = interpreters.one("3.12")
    path, _ = library(t)
    target = process.Target(interp, "marks", path, "app_event", "app_counter", "app_work",
                            "app_open", "app_close")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--follow=" + follow,
                            *every_probe(path)[10:], *every_probe("marklib.so")[:10])
    tracer.recording()
    target.go()
    seen = target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    check_marks(t, trace.load(t.path("trace.json")), seen, target.pid)


@each(minor=["3.11", "3.13"])
def test_launched_and_replayed(t, minor):
    """From the start of the process, by way of a capture, and in one file a process."""
    interp = interpreters.one(minor)
    path, _ = library(t)
    command = process.drive_command(interp, "marks", path, options=("--go", "--exit"))
    out, _ = process.run_tool("-o", t.path("x.ptcap"), *every_probe(path), "--", *command)
    process.run_tool("replay", t.path("x.ptcap"), "-o", t.path("trace.json"))
    process.run_tool("replay", t.path("x.ptcap"), "-o", t.path("split_%p.json"))
    seen = json.loads(re.search("^done (.*)$", out, re.M)[1])
    pid = int(re.search("^ready ([0-9]+)$", out, re.M)[1])
    check_marks(t, trace.load(t.path("trace.json")), seen, pid)
    check_marks(t, trace.load(t.path("split_%d.json" % pid)), seen, pid)


THROWING = """
import ctypes
library = ctypes.CDLL("%s")
def guarded():
    return library.mark_guarded(40)
print("thrown", guarded())
library.mark_hands_over(None)
"""


@each(optimized=["-O0", "-O2"])
def test_exceptions(t, optimized):
    """C++ exceptions pass through functions whose calls are slices, as they do without the tracer."""
    if not shutil.which("c++"):
        raise Skip("no C++ compiler")
    interp = interpreters.one("3.12")
    path = t.path("libthrow.so")
    subprocess.check_call(["c++", optimized, "-shared", "-fPIC", "-o", path,
                           os.path.join(process.PROGRAMS, "marks_throw.cc")])
    probes = []
    for name in ("mark_thrower(number:int)", "mark_through(number:int)", "mark_guarded(count:int)",
                 "mark_hands_over"):
        probes += ["--probe", "uprobe:%s:%s=slice" % (path, name)]
    out, _ = process.run_tool("-o", t.path("trace.json"), *probes, "--",
                              *interp.command("-c", THROWING % path))
    t.has(out, "thrown 20")
    got = trace.load(t.path("trace.json"))
    spans = got.spans_of("mark")
    guarded, = [s for s in spans if s.name == "mark_guarded"]
    t.equal(guarded.args.get("end lost"), None, "the end of what catches")
    through = sorted((s for s in spans if s.name == "mark_through"), key=lambda s: s.begin)
    t.equal([s.args["number"] for s in through], list(range(40)), "calls")
    for s in through:
        t.check(s.parent is guarded, "%s lies in %s", s.args, s.parent.name)
        t.equal(bool(s.args.get("end lost")), s.args["number"] % 2 == 1, "left by an exception")
        t.equal([c.name for c in s.children], ["mark_thrower"], "what it calls")
    t.equal([s.args.get("end lost") for s in spans if s.name == "mark_hands_over"], [None],
            "what ends in free()")


def test_nvtx(t):
    """Ranges of two domains overlap; one that is read in no way counts all the same."""
    interp = interpreters.one("3.12")
    path, _ = library(t)
    target = process.Target(interp, "marks", env=process.environment(MARKLIB=path, NVTX="1"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--nvtx")
    tracer.recording()
    target.go()
    target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    t.equal([r.name for r in got.ranges], ["a", "by attributes", "by attributes", "nvtx", "nvtx"],
            "ranges")
    a, text, domain, wide, registered = got.ranges
    t.check(a.begin < text.begin < domain.begin < wide.begin and
            wide.end < text.end < domain.end < a.end < registered.begin, "they do not nest so")
    t.check(domain.event["id"] != a.event["id"] == text.event["id"], "domains share a track")
    marks = [(e["name"], e.get("args", {}).get("message"), e.get("args", {}).get("id"))
             for e in sorted(got.instants, key=lambda e: e["ts"])]
    t.equal(marks, [("a mark", None, None), ("nvtxRangeStartA", "from here", None),
                    ("nvtxRangeEnd", None, 7)], "marks")


def test_nvtx_absent(t):
    target = process.Target(interpreters.one("3.12"), "closing")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--nvtx", "--probe",
                            "uprobe:no-such-library.so:f")
    tracer.recording()
    target.go()
    target.done()
    t.has(tracer.expect(0, stop=True), "no traced process mapped a library that exports NVTX",
          "no-such-library.so")
    target.finish()


def test_bad_input(t):
    """One clear message each, and the process goes on untouched."""
    interp = interpreters.one("3.12")
    path, _ = library(t)
    target = process.Target(interp, "marks", env=process.environment(MARKLIB=path))
    cases = [
        ("uprobe:%s:no_such" % path, FAILED, ["has no symbol no_such"]),
        ("uprobe:%s:app_number" % path, FAILED, ["is no code"]),
        ("uprobe:/no/such/file.so:f", FAILED, ["/no/such/file.so", "no such file"]),
        ("usdt:%s:nobody:tick" % path, FAILED, ["no USDT probe nobody:tick"]),
        ("usdt:%s:app:tick(a:str,b:int,c:int,d:int,e:int)" % path, FAILED, ["argument 5"]),
        ("uprobe:/etc/passwd:f", FAILED, ["ELF"]),
        ("uprobe:%s:app_event(a:float128)" % path, USAGE, ["there is no type 'float128'"]),
        ("uprobe:%s:app_event(a:double)" % path, USAGE, ["vector registers"]),
        ("usdt:%s:app:tick=slice" % path, USAGE, ["has no return"]),
        ("%s:app_event" % path, USAGE, ["neither uprobe: nor usdt:"]),
    ]
    for spec, code, says in cases:
        tracer = process.Tracer("-p", target.pid, "-o", t.path("bad.json"), "--probe", spec)
        text = tracer.expect(code)
        t.has(text, *says)
        t.equal(sum("pytrace-bpf: error: --probe" in line for line in text.splitlines()), 1,
                "messages for %s:\n%s" % (spec, text))
        t.check(not os.path.exists(t.path("bad.json")), "a file was left")
    out, text = process.run_tool("-p", "1", "--no-cookie", "--probe", "uprobe:x:f", code=5)
    t.has(text, "--probe and --nvtx are not possible here")
    _, text = process.run_tool("-p", "1", "--stacks", "mark", code=USAGE)
    t.has(text, "--stacks mark needs --probe or --nvtx")
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")


def test_documented_examples(t):
    """The programs and command lines of docs/MARKS.md, as they stand there."""
    with open(os.path.join(os.path.dirname(process.PROGRAMS), "..", "..", "docs", "MARKS.md")) as f:
        text = f.read()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.S)
    programs = [body for kind, body in blocks if kind == "python"]
    commands = [body for kind, body in blocks if kind == "sh"]
    t.check(len(programs) == len(commands) >= 3, "the examples do not pair")
    interp = interpreters.one("3.12")
    subprocess.check_call(["cc", "-O1", "-shared", "-fPIC", "-o", t.path("libmarks.so"), "-x", "c",
                           "-"], stdin=written(t, next(b for k, b in blocks if k == "c")))
    expected = ["request done", "queue", "load", "app.mark"]
    found = ""
    for number, (program, command) in enumerate(zip(programs, commands)):
        with open(t.path("app.py"), "w") as file:
            file.write(program)
        words = subprocess.check_output(
            ["bash", "-c", "printf '%s\\n' " + command.partition("pytrace-bpf")[2]],
            text=True).splitlines()
        words = [interp.path if w == "python3" else w for w in words]
        process.run_tool("-o", t.path("doc%d.json" % number), *words, cwd=t.path("."))
        got = trace.load(t.path("doc%d.json" % number))
        found += " ".join([e["name"] for e in got.instants] + [r.name for r in got.ranges] +
                          [e["name"] for e in got.events if e["ph"] == "C"]) + " "
    t.has(found, *expected)


def written(t, text):
    with open(t.path("stdin"), "w") as file:
        file.write(text)
    return open(t.path("stdin"))


# ---- flows from parent to child ----

def enclosing(got, event):
    """The innermost call around an event, on its thread."""
    found = None
    for root in got.threads.get((event["pid"], event["tid"]), ()):
        for s in root.walk():
            if s.begin <= event["ts"] <= s.end:
                found = s
    return found


def check_flows(t, got, first):
    """One to each process but the first, from a call of its parent's into a call of its own."""
    to = sorted(f["pid"] for _, f in got.flows)
    with_calls = {pid for pid, _ in got.threads}
    t.equal(to, sorted(with_calls - {first}), "processes that a flow leads to")
    for s, f in got.flows:
        t.check(s["pid"] != f["pid"], "a flow within a process")
        t.check(enclosing(got, s) is not None, "no call where process %d was forked", f["pid"])
        t.check(enclosing(got, f) is not None, "no call where the flow leads to: %s", f)
        own = min(r.begin for key, roots in got.threads.items() if key[0] == f["pid"]
                  for r in roots)
        t.equal(int(f["ts"]), own, "the child's first call")


@each(action=["exec", "subprocess", "pool", "spawn", "forkserver", "tree", "thread"])
def test_flows(t, action):
    interp = interpreters.one("3.12" if action != "forkserver" else "3.13")
    target = process.Target(interp, "forks", command=process.script(interp, "forks.py", action))
    tracer = process.Tracer("-p", target.pid, "--follow=exact", "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    result = target.done()
    tracer.expect(0, stop=True)
    target.finish()
    got = trace.load(t.path("trace.json"))
    check_flows(t, got, target.pid)
    for pid in result["children"]:
        t.check(any(f["pid"] == pid for _, f in got.flows), "no flow to %d", pid)
    labels = {e["pid"]: e["args"]["labels"] for e in got.events if e["name"] == "process_labels"}
    t.equal(set(labels), set(got.processes), "processes with a command line")
    if action == "thread":
        t.check(got.flows[0][0]["tid"] != target.pid, "the fork was not in the main thread")
    print("%d flows" % len(got.flows))


def test_short_lived(t):
    """Processes that are gone before user space looks at them still have their command lines."""
    interp = interpreters.one("3.12")
    target = process.Target(interp, "forks",
                            command=process.script(interp, "forks.py", "subprocess"))
    tracer = process.Tracer("-p", target.pid, "--follow=exact", "-o", t.path("trace.json"))
    tracer.recording()
    os.kill(tracer.pid, signal.SIGSTOP)
    target.go()
    result = target.done()
    os.kill(tracer.pid, signal.SIGCONT)
    tracer.expect(0, stop=True)
    target.finish()
    got = trace.load(t.path("trace.json"))
    check_flows(t, got, target.pid)
    labels = {e["pid"]: e["args"]["labels"] for e in got.events if e["name"] == "process_labels"}
    for pid in result["children"]:
        t.has(labels.get(pid, ""), " -c import os, forks; forks.in_child(); print(os.getpid())")
        t.equal(sum(1 for s in got.named("leaf") if s.event["pid"] == pid), 50, "calls of leaf()")


def real(t, root_module, command, ready, use):
    """A server of Debian's in its root: (trace, its first process)"""
    interp = next((i for i in interpreters.every() if "trixie" in i.name), None)
    if not interp or not os.path.exists(interp.root + "/usr/lib/python3/dist-packages/" +
                                        root_module):
        raise Skip("no Debian root with %s" % root_module)
    folder = process.install_programs(interp)
    tracer = process.Tracer("-o", t.path("trace.json"), "--follow=exact", "--", *interp.command(
        "-c", "import os, sys; os.chdir(%r); sys.path.insert(0, ''); sys.argv[:] = %r; %s" % (
            folder, command[1:], command[0])))
    first = int(re.search(r"recording (\d+)", tracer.recording())[1])
    ready(tracer)
    use(interp.root + folder)
    tracer.stop()
    return trace.load(t.path("trace.json")), first


def test_gunicorn(t):
    """The arbiter forks workers, which serve requests."""
    command = ["from gunicorn.app.wsgiapp import run; run()", "gunicorn", "-w", "2", "-b",
               "127.0.0.1:0", "wsgi:app"]
    port = []

    def ready(tracer):
        line = tracer.err.wait("Listening at", "gunicorn")
        port.append(int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1]))
        process.wait_until(lambda: tracer.err.count("Booting worker") == 2, "gunicorn's workers")

    def use(folder):
        for _ in range(4):
            process.wait_until(lambda: fetch(port[0]) == b"hello", "an answer")
    got, first = real(t, "gunicorn", command, ready, use)
    check_flows(t, got, first)
    t.check(len(got.flows) >= 2, "fewer flows than workers")
    t.check(len(got.named("wsgi_app")) >= 4, "requests: %d", len(got.named("wsgi_app")))
    t.check(all(s.event["pid"] != first for s in got.named("wsgi_app")), "the arbiter served")


def fetch(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        return connection.getresponse().read()
    except OSError:
        return None


def test_celery(t):
    """A prefork pool over a broker that is a folder; the tasks run in the children."""
    command = ["from celery_app import app, fill; fill(); app.worker_main(sys.argv[1:])", "celery", "worker",
               "-P", "prefork", "-c", "2", "-l", "INFO"]

    def ready(tracer):
        tracer.err.wait("ready.", "celery")

    done = []

    def use(folder):
        done.append(folder + "/celery-done")
        process.wait_until(lambda: len({name.split()[0] for name in os.listdir(done[0])}) == 6,
                           "tasks")
    got, first = real(t, "celery", command, ready, use)
    check_flows(t, got, first)
    # celery checks the arguments with a function of the same name that it makes itself
    tasks = [s for s in got.named("celery_task") if s.file.endswith("celery_app.py")]
    pids = sorted(int(name.split()[1]) for name in os.listdir(done[0]))
    t.equal(sorted(s.event["pid"] for s in tasks), pids, "processes that ran tasks")
    t.check(all(s.event["pid"] != first for s in tasks), "the parent ran a task")
    t.check({s.event["pid"] for s in tasks} <= {f["pid"] for _, f in got.flows}, "no flow to it")


# ---- the newest entries ----

@each(minor=["3.8", "3.12"])
def test_tracer_entries(t, minor):
    """The newest N, whole and nested, the same that the end of a whole trace has."""
    interp = interpreters.one(minor)
    command = process.drive_command(interp, "closing", options=("--go", "--exit"))
    process.run_tool("-o", t.path("x.ptcap"), "--", *command)
    process.run_tool("replay", t.path("x.ptcap"), "-o", t.path("whole.json"))
    _, text = process.run_tool("replay", t.path("x.ptcap"), "-o", t.path("part.json"),
                               "--tracer-entries", "300")
    t.has(text, "older entries were left out (--tracer-entries)")
    whole, part = trace.load(t.path("whole.json")), trace.load(t.path("part.json"))
    entries = [e for e in whole.events if e["ph"] in "XiC"]
    kept = [e for e in part.events if e["ph"] in "XiC"]
    t.equal(kept, entries[-300:], "the newest entries")
    summary = part.document["pytrace-bpf summary"]
    t.equal(summary["older entries left out"], len(entries) - 300, "left out")
    t.equal(summary["lost events"], 0, "events lost")
    t.check("older entries left out" not in whole.document["pytrace-bpf summary"], "of all")


def test_tracer_entries_live(t):
    """While recording, with a copy saved meanwhile; and with room for everything."""
    interp = interpreters.one("3.12")
    target = process.Target(interp, "closing")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--tracer-entries", "50",
                            "--control", t.path("socket"))
    tracer.recording()
    target.go()
    target.done()
    process.run_tool("ctl", "--socket", t.path("socket"), "save", t.path("copy.json"))
    tracer.expect(0, stop=True)
    target.finish()
    copy, got = trace.load(t.path("copy.json")), trace.load(t.path("trace.json"))
    t.equal(sum(e["ph"] in "XiC" for e in got.events), 50, "entries")
    t.check(copy.named("workload") or copy.count >= 50, "the copy has the newest, too")
    process.run_tool("-o", t.path("all.json"), "--tracer-entries", "10000000", "--", *interp.command(
        "-c", "print(1)"))
    summary = trace.load(t.path("all.json")).document["pytrace-bpf summary"]
    t.check("older entries left out" not in summary, "left out though there was room")


def test_tracer_entries_refused(t):
    process.run_tool("-p", "1", "-o", t.path("x.ptcap"), "--tracer-entries", "5", code=USAGE)
    process.run_tool("-p", "1", "--tracer-entries", "many", code=USAGE)
