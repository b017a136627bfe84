# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--c-functions: the C functions that Python calls, as sys.setprofile sees them."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess

from harness import interpreters, process, trace
from harness.runner import Skip, each

# Roots of the window that is compared; the rest of each thread is the harness's.
ROOTS = ("workload", "worker")


def oracle_of(interp):
    command = process.script(interp, "cfunctions.py", "oracle")
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                         timeout=process.WAIT_S, env=process.environment()).stdout
    return sorted(cut([tuple(e) for e in events]) for events in json.loads(out))


def cut(events):
    """From the first enter of a root to its exit."""
    depth, begin = 0, None
    for i, (enter, name) in enumerate(events):
        if begin is None and enter and name in ROOTS:
            begin = i
        if begin is not None:
            depth += 1 if enter else -1
            if not depth:
                return events[begin:i + 1]
    return []


def is_own(s):
    return s is not None and s.file.endswith("/cfunctions.py")


def events_of(roots):
    """The enters and exits of this file's functions and of the C functions that they call."""
    events, todo = [], [(s, None, True) for s in reversed(roots)]
    while todo:
        s, caller, enter = todo.pop()
        if is_own(s) or (s.is_c and is_own(caller)):
            events.append((int(enter), s.name.rpartition(".")[2] if is_own(s) else s.name))
        if enter:
            todo.append((s, caller, False))
            todo.extend((c, s, True) for c in reversed(s.children))
    return events


def short(event):
    return "%s %s" % ("enter" if event[0] else "exit ", event[1]) if event else "-"


def compare(t, expected, got):
    t.equal(len(got), len(expected), "threads with a workload")
    for n, (e, g) in enumerate(zip(expected, got)):
        for i in range(max(len(e), len(g))):
            a, b = e[i] if i < len(e) else None, g[i] if i < len(g) else None
            if a != b:
                before = "\n".join("   " + short(x) for x in e[max(0, i - 8):i])
                t.check(False, "thread %d, event %d of %d (trace %d):\n%s\noracle %s, trace %s\n%s",
                        n, i, len(e), len(g), before, short(a), short(b),
                        [short(x) for x in g[i:i + 6]])


def record(t, interp, *options, program="cfunctions.py", args=("run",), c_default=False):
    _, err = process.run_tool("-o", t.path("trace.json"), *options, "--",
                              *process.script(interp, program, *args), c_default=c_default)
    return trace.load(t.path("trace.json")), err


def releases():
    """Builds with Py_DEBUG make calls in a way that is refused."""
    return [i for i in interpreters.every() if not i.name.endswith("d")]


def debug_builds():
    return [i for i in interpreters.every() if i.name.endswith("d")]


def c_names(got):
    return {s.name for s in got.slices() if s.is_c}


@each(interp=releases)
def test_all(t, interp):
    got, _ = record(t, interp, "--c-functions=all")
    threads = sorted(x for x in (cut(events_of(r)) for r in got.threads.values()) if x)
    expected = oracle_of(interp)
    compare(t, expected, threads)
    print("%d enters and exits, %d of C functions" % (
        sum(len(x) for x in expected),
        sum(name.startswith("<built-in") for x in expected for _, name in x)))


@each(interp=releases)
def test_sorted(t, interp):
    """What the callback takes is the C function's time, and stands inside it."""
    got, _ = record(t, interp, "--c-functions=sorted,repr,sleep", program="sorted_seed.py", args=())
    outer = [s for s in got.named("<built-in function sorted>") if s.end - s.begin >= 2 * 10 ** 9]
    t.equal(len(outer), 1, "slices of sorted() of at least two seconds")
    t.equal(outer[0].event["cat"], "python_function", "category")
    keys = outer[0].children
    t.equal([k.name for k in keys], ["get_key"] * 2, "what sorted() called")
    for key in keys:
        t.equal([c.name for c in key.children],
                ["<built-in function sleep>", "<built-in function repr>"], "what get_key() called")


@each(interp=debug_builds)
def test_refused(t, interp):
    """A build that is not understood is traced without its C functions, and that is said."""
    got, err = record(t, interp, "--c-functions=all")
    t.has(err, "--c-functions", "are not recorded")
    t.equal(c_names(got), set(), "C functions")
    t.check("nested" in got.counts(), "no Python functions either")


@each(minor=["3.9", "3.11", "3.12", "3.13"])
def test_attach(t, minor):
    """A process that calls C functions and nothing else shows them."""
    interp = interpreters.one(minor)
    command = process.script(interp, "sleeper.py", "30")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as target:
        target.stdout.readline()
        process.run_tool("-p", target.pid, "-o", t.path("trace.json"), "-d", "1s",
                         "--c-functions=time.*,str.split")
        target.kill()
    got = trace.load(t.path("trace.json"))
    t.equal(c_names(got), {"<built-in function sleep>", "<built-in function monotonic>",
                           "<built-in method split of str object>"}, "C functions")
    for s in got.named("<built-in function sleep>")[:5]:
        t.check(s.args.get("Python parent id"), "sleep() stands in no function")


@each(minor=["3.12"])
@each(options=["--no-uprobe-multi", "--max-stack-depth=3", ""])
def test_globs(t, minor, options):
    """What no pattern matches is left out; without the option there is nothing at all."""
    interp = interpreters.one(minor)
    got, _ = record(t, interp, "--c-functions=math.*,list.insert,isinstance,blocking",
                    *options.split())
    t.equal(c_names(got) & {"<built-in function gcd>", "<built-in function abs>",
                            "<built-in function len>"},
            {"<built-in function gcd>"} if "depth" not in options else set(), "functions")
    t.check("<built-in function isinstance>" in c_names(got), "isinstance() was asked for")
    t.check("<built-in function repr>" not in c_names(got), "repr() was not asked for")
    got, _ = record(t, interp, *options.split())
    t.equal(c_names(got), set(), "C functions that nobody asked for")


def test_capture(t):
    """replay and report filter what a capture holds."""
    interp = interpreters.one("3.12")
    process.run_tool("-o", t.path("raw.ptcap"), "--c-functions=all", "--",
                     *process.script(interp, "cfunctions.py", "run"))
    for value, wanted in (("all", True), ("none", False), ("*.gcd", True), ("sleep", False)):
        process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"),
                         "--c-functions", value)
        names = c_names(trace.load(t.path("trace.json")))
        t.equal("<built-in function gcd>" in names, wanted, "gcd with " + value)
    out, _ = process.run_tool("report", t.path("raw.ptcap"), "--top", "200")
    t.has(out, "  <built-in function gcd>")


@each(value=["", ",", "all,math.*", "none,x", "x,,y"])
def test_bad_value(t, value):
    _, err = process.run_tool("--c-functions=" + value, "--", "true", code=2)
    t.has(err, "--c-functions")


@each(option=["--no-cookie", "--no-task-storage"])
def test_old_kernel(t, option):
    """What the feature needs is switched off: it says so, and the rest is recorded."""
    got, err = record(t, interpreters.one("3.12"), "--c-functions=all", option)
    t.has(err, "--c-functions: not recorded")
    t.equal(c_names(got), set(), "C functions")
    t.check("nested" in got.counts(), "no Python functions either")


# C functions of which none calls another, each with one name; few enough not to be "most".
CHOSEN = ("sorted", "list.sort", "max", "_functools.reduce", "divmod", "time.sleep",
          "list.insert", "dict.fromkeys", "int.from_bytes", "vars", "list.index", "print")
PROBED = "probed at themselves ("


def plan_of(err):
    """How C functions are recorded, as -v says it."""
    found = re.findall("C functions of CPython [^:]*: (.*)", err)
    return found[0] if found else ""


def chosen_name(name):
    return any(name.startswith(("<built-in function %s>" % n, "<built-in method %s of " % n))
               for n in (g.rpartition(".")[2] for g in CHOSEN))


@each(interp=releases)
def test_chosen(t, interp):
    """Probed at themselves: of what was chosen, the calls of the program's own functions are those
    that sys.setprofile reports, in that order."""
    got, err = record(t, interp, "-v", "--c-functions=" + ",".join(CHOSEN))
    t.has(plan_of(err), PROBED)
    keep = lambda events: [e for e in events if not e[1].startswith("<built-in")
                           or chosen_name(e[1])]
    threads = sorted(keep(x) for x in (cut(events_of(r)) for r in got.threads.values()) if x)
    expected = sorted(keep(x) for x in oracle_of(interp))
    compare(t, expected, threads)
    t.equal(got.document["pytrace-bpf summary"]["stack jumps"], 0, "stack jumps")
    print("%d enters and exits of chosen C functions" % sum(
        name.startswith("<built-in") for x in expected for _, name in x))


METHODS = ("time.sleep,_socket.socket.*,list.sort,sorted,*lock.acquire,re.Pattern.sub,_sre.*,"
           "_bisect.insort*,posix.fork")


def in_function(got, function, text):
    """Of the C functions directly in a function of methods.py, those with that text in the name."""
    return [c for s in got.named(function) for c in s.children
            if c.is_c and c.name.startswith(text)]


@each(minor=["3.8", "3.11", "3.12", "3.14"])
@each(option=["--follow=exact", "--follow=late"])
def test_methods(t, minor, option):
    """Each call is there, with its callbacks inside, and ends where it did."""
    interp = interpreters.one(minor)
    got, err = record(t, interp, "-v", option, "--c-functions=" + METHODS, program="methods.py",
                      args=("plain",))
    t.has(plan_of(err), PROBED)
    rounds = 20
    counts = {("waits", "<built-in function sleep>"): rounds,
              ("sends", "<built-in method sendall of socket object>"): rounds,
              ("sends", "<built-in method recv of socket object>"): rounds,
              ("sorts", "<built-in method sort of list object>"): rounds,
              ("sorts", "<built-in function sorted>"): rounds,
              ("locks", "<built-in method acquire"): rounds,
              ("searches", "<built-in method sub of re.Pattern object>"): rounds,
              ("raises", "<built-in function sorted>"): rounds,
              ("raises", "<built-in function sleep>"): rounds}
    for (function, name), count in counts.items():
        t.equal(len(in_function(got, function, name)), count, "%s in %s()" % (name, function))
    for s in in_function(got, "sorts", "<built-in function sorted>"):
        t.equal([c.name for c in s.children], ["<built-in method sort of list object>"],
                "what sorted() calls")
    for s in in_function(got, "searches", "<built-in method sub"):
        t.equal([c.name for c in s.children], ["replace"] * 2, "callbacks of sub()")
    s, depth = in_function(got, "deep", "down") or got.named("deep")[0], 0
    while s.children:
        s, depth = s.children[0], depth + 1
    t.equal(depth, 1 + 3 * 69, "nested calls: down, sorted, list.sort")
    if option == "--follow=exact":  # else the child may get its probes in the middle of a call
        t.equal(got.document["pytrace-bpf summary"]["stack jumps"], 0, "stack jumps")
        t.equal(len(got.named("<built-in function sleep>")), 2 * rounds + 1, "with the child's")


@each(minor=["3.8", "3.12", "3.14"])
def test_names_in_children_that_are_gone(t, minor):
    """A forked child has few pages of its files mapped, so BPF cannot read the names there; when the
    tracer gets to it the child is gone. The parents have the same functions at the same places."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "forks", command=process.script(interp, "forks.py", "calls_c"))
    tracer = process.Tracer("-p", target.pid, "--follow=exact", "--c-functions=all", "-o",
                            t.path("trace.json"))
    tracer.recording()
    os.kill(tracer.pid, signal.SIGSTOP)
    target.go()
    target.done()
    os.kill(tracer.pid, signal.SIGCONT)
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    for function, name in (("child", "<built-in function adler32>"),
                           ("grandchild", "<built-in function fsum>"),
                           ("grandchild", "<built-in method hex of bytes object>")):
        t.equal(sum(len([c for c in s.children if c.name == name]) for s in got.slices()
                    if s.name.rpartition(".")[2] == function), 1, name + " in " + function)


def test_methods_too_deep(t):
    """What is nested too deep is counted and said; what is called afterwards is there."""
    interp = interpreters.one("3.11")  # later ones allow less depth themselves
    got, err = record(t, interp, "-v", "--c-functions=sorted", program="methods.py",
                      args=("deeper",))
    t.has(plan_of(err), PROBED)
    t.has(err, "C functions")
    t.equal(len(in_function(got, "after_deeper", "<built-in function sorted>")), 1, "afterwards")
    deepest = sum(1 for s in got.slices() if s.name == "<built-in function sorted>")
    t.check(deepest >= 900, "%d calls of sorted()", deepest)


def test_methods_late(t):
    """An extension module that nobody knows is imported while recording: its calls are there once
    it has its probes."""
    interp = interpreters.one("3.12")
    prefix = os.path.dirname(os.path.dirname(interp.file))
    found = glob.glob(prefix + "/lib/python3.12/lib-dynload/_bisect.*.so")
    if interp.root or not found:
        raise Skip("no _bisect to copy")
    copy = shutil.copy(found[0], t.path(""))
    os.utime(copy)
    tracer = process.Tracer("-vv", "-o", t.path("trace.json"), "--c-functions=" + METHODS, "--",
                            *process.script(interp, "methods.py", t.path("")),
                            stdin=subprocess.PIPE)
    tracer.err.wait("C functions of '%s'" % copy, "the tracer")
    for _ in range(3):
        tracer.popen.stdin.write(b"go\n")
    tracer.popen.stdin.close()
    t.has(tracer.expect(0), "its C functions are recorded from now on")
    got = trace.load(t.path("trace.json"))
    t.equal(len(in_function(got, "late", "<built-in function insort")), 3, "calls of insort()")


def test_methods_greenlets(t):
    """A C function whose callback switches to another greenlet and back: nothing happens to the
    program, and what the trace does not know, it says."""
    for interp in interpreters.every():
        if not subprocess.run(interp.command("-c", "import greenlet"), check=False,
                              stderr=subprocess.DEVNULL).returncode:
            break
    else:
        raise Skip("no interpreter with greenlet")
    _, err = record(t, interp, "-v", "--c-functions=sorted,list.sort", program="switches.py",
                    args=())
    t.has(plan_of(err), PROBED)


@each(globs=["nowhere.at_all", "*", "list.sort,nowhere.*"])
def test_call_sites(t, globs):
    """What is not known ahead, or most of all, is recorded where it is called."""
    interp = interpreters.one("3.12")
    got, err = record(t, interp, "-v", "--c-functions=" + globs, program="methods.py",
                      args=("plain",))
    t.has(plan_of(err), "where they are called")
    if "sort" in globs:
        t.equal(len(in_function(got, "sorts", "<built-in method sort of list object>")), 20,
                "calls of list.sort")


@each(minor=["3.8", "3.9", "3.11", "3.12", "3.14"])
def test_default(t, minor):
    """Nothing is asked for: what waits is there, call by call, and nothing else is."""
    interp = interpreters.one(minor)
    got, err = record(t, interp, "-v", "--follow=exact", program="methods.py", args=("plain",),
                      c_default=True)
    t.has(plan_of(err), PROBED)
    for function, name, count in (("waits", "<built-in function sleep>", 20),
                                  ("sends", "<built-in method sendall of socket object>", 20),
                                  ("sends", "<built-in method recv of socket object>", 20),
                                  ("raises", "<built-in function sleep>", 20),
                                  ("sorts", "<built-in", 0), ("locks", "<built-in", 0)):
        t.equal(len(in_function(got, function, name)), count, "%s in %s()" % (name, function))
    t.equal(got.document["pytrace-bpf summary"]["stack jumps"], 0, "stack jumps")


EPOLL = """
import select
import socket
import sys
sys.stdout.write("ready")
sys.stdout.flush()
one, other = socket.socketpair()
poll = select.epoll()
poll.register(one, select.EPOLLIN)
def serve():
    poll.poll(0.01)
while not select.select([sys.stdin], [], [], 0)[0]:
    serve()
for _ in range(5):
    serve()
"""


@each(minor=["3.8", "3.11", "3.13", "3.15"])
def test_default_attach(t, minor):
    """A server that has nothing to do shows that it polls."""
    interp = interpreters.one(minor)
    with subprocess.Popen(interp.command("-c", EPOLL), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as target:
        target.stdout.read(len("ready"))
        tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
        tracer.recording()
        target.stdin.close()
        tracer.expect(0)
        target.wait(process.WAIT_S)
    got = trace.load(t.path("trace.json"))
    last = sorted(got.named("serve"), key=lambda s: s.begin)[-5:]
    t.equal([[c.name for c in s.children] for s in last],
            [["<built-in method poll of select.epoll object>"]] * 5, "what serve() calls")
    for s in last:
        t.check(s.children[0].end - s.children[0].begin > 5 * 10 ** 6, "it does not wait")


@each(options=["--c-functions=none", "--no-uprobe-multi", "--no-task-storage",
               "--max-overhead=50%"])
def test_no_default(t, options):
    """Where it would cost calls of others something there are none, and nobody is bothered."""
    interp = interpreters.one("3.12")
    got, err = record(t, interp, "-v", options, program="methods.py", args=("plain",),
                      c_default=True)
    t.equal(c_names(got), set(), "C functions that nobody asked for")
    t.check("--c-functions" not in err, "it says: %s", err)
    if "overhead" not in options:  # recording may rest
        t.check("waits" in got.counts(), "no Python functions either")
    if options.startswith("--no-"):
        t.has(err, "C functions: not recorded: ")


def test_plan(t):
    """--dry-run and check say which way, too."""
    interp = interpreters.one("3.12")
    with subprocess.Popen(process.script(interp, "sleeper.py", "30"),
                          stdout=subprocess.PIPE) as target:
        target.stdout.readline()
        out, _ = process.run_tool("-p", target.pid, "--dry-run", "--c-functions=time.sleep")
        t.has(out, "1 " + PROBED)
        out, _ = process.run_tool("-p", target.pid, "--dry-run", "--c-functions=time.sleep",
                                  "--no-uprobe-multi")
        t.has(out, "where they are called: uprobe.multi is switched off")
        out, _ = process.run_tool("-p", target.pid, "--dry-run", "--json", "--c-functions=x.y")
        t.has(json.loads(out)[0]["c_functions"], "where they are called")
        out, _ = process.run_tool("-p", target.pid, "--dry-run", c_default=True)
        t.has(out, PROBED)
        out, _ = process.run_tool("check", "-p", target.pid)
        t.has(out, PROBED)
        target.kill()
