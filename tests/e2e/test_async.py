# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""asyncio: a track a task. The witness is a second run in which the tasks' coroutines are wrapped, so that
the program itself counts how often each is resumed, and by whom it was made."""
import collections
import os
import re
import shutil
import subprocess

from harness import interpreters, process, trace
from harness.runner import Skip, each

TRACK = 1 << 30


def record(t, interp, *options, program="tasks", args=(), env=None, code=0):
    target = process.Target(interp, program, *args, env=env)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    result = target.done()
    text = tracer.expect(code, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return trace.load(t.path("trace.json")), result, text


def truth_of(interp, *args):
    target = process.Target(interp, "tasks", *args, "count")
    target.go()
    result = target.done()
    target.finish()
    return result["seen"]


# "task NAME (FUNCTION #1)"
TRACK_NAME = re.compile(r"task (?:(?P<name>.*) \()?(?P<function>.*?) #\d+\)?$", re.DOTALL)


class Task:
    def __init__(self, got, key, name):
        spans = sorted((s for s in got.spans if (s.event["pid"], s.event["tid"]) == key),
                       key=lambda s: s.begin)
        match = TRACK_NAME.match(name)
        self.key, self.name, self.given = key, match["function"], match["name"]
        self.steps = [s for s in spans if s.category == "asyncio_step"]
        self.waits = [s for s in spans if s.category == "asyncio_wait"]
        parent = self.steps[0].args.get("parent") if self.steps else None
        self.parent = parent and parent.partition(" ")[2].rpartition(" #")[0]

    @property
    def told(self):
        return self.name, len(self.steps), self.parent or ""


def tasks_of(got):
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in got.events
             if e["ph"] == "M" and e["name"] == "thread_name"}
    t = [Task(got, key, name) for key, name in names.items() if key[1] >= TRACK]
    return [task for task in t if task.steps]


def check_task(t, got, task):
    """Its steps are numbered, lie where the thread's calls are, and between them it waits."""
    t.equal([s.args.get("step") for s in task.steps], list(range(1, len(task.steps) + 1)),
            "numbers of the steps of %s" % task.name)
    t.equal({s.name for s in task.steps}, {task.name}, "names of steps")
    bounds = []
    for before, after in zip(task.steps, task.steps[1:]):
        if after.begin - before.end > 3:
            bounds.append((before.end + 1, after.begin - 1))
    t.equal([(w.begin, w.end) for w in task.waits], bounds, "waits of %s" % task.name)
    tid = task.steps[0].args["thread"]
    ends = {s.end: s for root in got.threads[(task.key[0], tid)] for s in root.walk()}
    for step in task.steps:
        t.check(step.end in ends, "no call of the thread ends with a step of %s", task.name)
        call = ends[step.end]
        t.check(call.name == task.name or task.name == "swallows", "%s ends with %s", task.name,
                call.name)


def check_flows(t, got, tasks):
    """From a call that makes a task to the task's first step."""
    ends = collections.defaultdict(dict)
    for e in got.events:
        if e["ph"] in "sf":
            t.check(e["ph"] not in ends[e["id"]], "flow %s has two ends of a kind", e["id"])
            ends[e["id"]][e["ph"]] = e
    by_track = {both["f"]["tid"]: both for both in ends.values()}
    makers = [s for s in got.slices() if s.name.endswith(("create_task", "ensure_future"))]
    for task in tasks:
        both = by_track.pop(task.key[1], None)
        t.check(both, "no flow to %s", task.name)
        t.equal(int(both["f"]["ts"]), task.steps[0].begin, "where the flow to %s ends" % task.name)
        begin = int(both["s"]["ts"])
        t.check([s for s in makers if s.event["tid"] == both["s"]["tid"] and
                 s.begin <= begin <= s.end], "the flow to %s begins outside of a call that makes it",
                task.name)
    t.check(not by_track, "flows to no task: %s", by_track)


def compare(t, got, truth, parents=True):
    tasks = tasks_of(got)
    expected = collections.Counter((x["name"], x["steps"], parents and x["parent"] or "")
                                   for x in truth)
    found = collections.Counter(task.told if parents else task.told[:2] + ("",) for task in tasks)
    t.equal(sorted((expected - found).items()), [], "tasks that are missing")
    t.equal(sorted((found - expected).items()), [], "tasks that there were not")
    for task in tasks:
        check_task(t, got, task)
    print("%d tasks, %d steps" % (len(tasks), sum(len(x.steps) for x in tasks)))
    return tasks


@each(interp=interpreters.every)
def test_async(t, interp):
    """Each task, how often it was resumed, and who made it."""
    got, _, _ = record(t, interp, "--async", args=("c",))
    tasks = compare(t, got, truth_of(interp, "c"))
    check_flows(t, got, tasks)
    t.check(len(tasks) > 40, "only %d tasks", len(tasks))


@each(minor=["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"])
@each(how=["py", "debug", "threads"])
def test_async_ways(t, minor, how):
    """Task in Python, asyncio's debug mode, several loops."""
    interp = interpreters.one(minor)
    got, _, _ = record(t, interp, "--async", args=(how,))
    check_flows(t, got, compare(t, got, truth_of(interp, how)))


def test_async_eager(t):
    """The first step is within another task's (3.12+)."""
    interp = interpreters.one("3.12")
    got, _, _ = record(t, interp, "--async", args=("eager",))
    check_flows(t, got, compare(t, got, truth_of(interp, "eager")))


def with_module(name):
    found = [i for i in interpreters.every() if i.name.startswith("trixie-")]
    if not found or not os.path.isdir("%s/usr/lib/python3/dist-packages/%s" % (found[0].root, name)):
        raise Skip("there is no Debian root with %s" % name)
    return found[0]


def test_async_uvloop(t):
    """What is made by uvloop's own create_task(), in C, has no flow; the rest is as ever."""
    interp = with_module("uvloop")
    got, _, _ = record(t, interp, "--async", args=("uvloop",))
    # uvloop's own coroutines are Cython's: there is no frame of Python
    truth = [x for x in truth_of(interp, "uvloop") if x["name"] != "shutdown_asyncgens"]
    tasks = compare(t, got, truth, parents=False)
    by_c = [x for x in tasks if x.name == "hops" and len(x.steps) == 51]
    t.equal(len(by_c), 1, "tasks made by the loop's own create_task()")
    check_flows(t, got, [x for x in tasks if x not in by_c])


@each(option=["--lines", "--min-duration=50us", "--c-functions=all", "--engine=usdt"])
def test_async_with(t, option):
    interp = interpreters.one("3.12")
    if option == "--engine=usdt":
        interp = next((i for i in interpreters.every() if i.name.startswith("bullseye-")), None)
        if not interp:
            raise Skip("no interpreter with USDT probes")
    got, _, _ = record(t, interp, "--async", option, args=("c",))
    if option.startswith("--min"):
        for s in got.spans:
            t.check(s.end - s.begin >= 50_000, "%s of %d ns", s.name, s.end - s.begin)
        numbers = [s.args["step"] for task in tasks_of(got) for s in task.steps]
        t.check(max(numbers) > 3, "steps are numbered as if the short ones were not: %s", numbers)
        return
    compare(t, got, truth_of(interp, "c"))


def shown(name):
    return name[:256] + "\u2026" if len(name) > 256 else name


def check_names(t, got, expected):
    found = collections.Counter((x.name, x.given) for x in tasks_of(got))
    expected = collections.Counter((function, name and shown(name)) for function, name in expected)
    t.equal(sorted(map(str, (expected - found).items())), [], "names that are missing")
    # up to 3.10 close() enters a coroutine that never ran
    t.equal([x for x in found - expected if x[0] not in ("main", "dropped")], [], "names that there were not")


@each(interp=interpreters.every)
def test_async_names(t, interp):
    """The name that each task has at the end, whoever gave it and when, as the task itself says."""
    got, result, _ = record(t, interp, "--async", program="tasks_named")
    check_names(t, got, [(function, name) for function, name, _ in result["told"]])
    print("%d tasks" % len(result["told"]))


@each(minor=["3.10", "3.13"])
def test_async_names_python(t, minor):
    """Of a Task in Python what it is given when it is made."""
    interp = interpreters.one(minor)
    got, result, _ = record(t, interp, "--async", program="tasks_named", args=("py",))
    check_names(t, got, [(function, "plain" if name == "c" else name if given else None)
                         for function, name, given in result["told"]])


def test_async_off(t):
    interp = interpreters.one("3.12")
    got, _, _ = record(t, interp, args=("c",))
    t.equal(got.spans_of("asyncio_step") + got.spans_of("asyncio_wait"), [], "without --async")
    t.equal(tasks_of(got), [], "tracks without --async")


def test_async_without_asyncio(t):
    interp = interpreters.one("3.12")
    got, _, _ = record(t, interp, "--async", program="spin_once")
    t.check(got.count, "no calls")
    t.equal(tasks_of(got), [], "tracks of a program without tasks")


def test_async_refused(t):
    """With --start-on, which would hide where tasks begin."""
    process.run_tool("--async", "--start-on", "f", "-p", "1", code=2)


def paths(events):
    """What greenlets enter and leave, as text: one for each outermost call."""
    text, depth = [], 0
    for enter, name in events:
        if not depth:
            text.append("")
        depth += 1 if enter else -1
        text[-1] += ("+" if enter else "-") + name + " "
    return text


def with_greenlets():
    """Those that have gevent: the machine's own from Debian's package, and Debian's roots; and pyenv's up
    to 3.10, which get a stand-in."""
    return [i for i in interpreters.every() if i.minor < (3, 11) and i.name.startswith("pyenv-") or
            i.minor != (3, 8) and (i.name.startswith("system-") or i.root) and os.path.isdir(
                "%s/usr/lib/python3/dist-packages/gevent" % (i.root or ""))]


def greenlet_environment(t, interp):
    """Where the interpreter finds greenlet, if that is not in its own folders."""
    if not interp.name.startswith("pyenv-"):
        return None
    if not shutil.which("cc"):
        raise Skip("there is no C compiler")
    include = subprocess.check_output(interp.command(
        "-c", "import sysconfig; print(sysconfig.get_paths()['include'])"), text=True).strip()
    subprocess.check_call(["cc", "-O2", "-shared", "-fPIC", "-I" + include, "-o", t.path("_greenlet.so"),
                           os.path.join(process.PROGRAMS, "greenlet_double.c")])
    with open(t.path("greenlet.py"), "w") as f:
        f.write("from _greenlet import *\n__version__ = 'double'\n")
    return process.environment(PYTHONPATH=os.path.dirname(t.path("greenlet.py")))


def check_greenlets(t, got, seen):
    truth = collections.Counter(text for x in seen for text in paths(x))
    outside = {"workload", "in_thread", "hook", "<module>"}
    found = collections.Counter()
    for roots in got.threads.values():
        bounds = []
        for s in (s for root in roots for s in root.walk()):
            if s.file.endswith("/greenlets.py") and s.name not in outside:
                bounds += [(s.begin, (1, s.name)), (s.end, (0, s.name))]
            for flag in "begin lost", "end lost":
                t.check(flag not in s.args, "%s: %s", s.name, flag)
        found.update(paths(x for _, x in sorted(bounds)))
    t.equal(sorted((truth - found).items()), [], "greenlets that are missing")
    t.equal(sorted((found - truth).items()), [], "greenlets that there were not")
    t.equal(got.document["pytrace-bpf summary"]["stack jumps"], 0, "stack jumps")
    print("%d greenlets" % sum(found.values()))


@each(interp=with_greenlets)
def test_greenlets(t, interp):
    """What each greenlet enters and leaves, in order, as a profile function sees it in a second run."""
    env = greenlet_environment(t, interp)
    got, _, _ = record(t, interp, "--async", program="greenlets", env=env)
    target = process.Target(interp, "greenlets", "watch", env=env)
    target.go()
    seen = target.done()["seen"]
    target.finish()
    check_greenlets(t, got, seen)


def test_greenlets_warned_of(t):
    """A process that has loaded greenlet, without --async."""
    interp = with_module("greenlet")
    for options, warned in ((), True), (("--async",), False):
        _, _, text = record(t, interp, *options, program="greenlets_loaded")
        t.equal("has loaded greenlet" in text, warned, "a warning with %s" % (options,))


def test_async_cancelled_at_the_end(t):
    """Tasks that were there before: an exception goes into each, and it is one task all the same."""
    interp = interpreters.one("3.12")
    target = process.Target(interp, "tasks_waiting")
    target.go()
    target.out.wait("waiting", "the target")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--async")
    tracer.recording()
    target.send()
    names = target.done()["names"]
    tracer.expect(0, stop=True)
    target.finish()
    tasks = tasks_of(trace.load(t.path("trace.json")))
    t.equal(sorted(task.given for task in tasks if task.name == "outer"), sorted(names), "names")
    t.equal(sorted(task.name for task in tasks), ["main"] + ["outer"] * 3, "tasks")
    for task in tasks:
        t.check(all("step" not in s.args for s in task.steps), "a number for a step of %s", task.name)
