# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Children: fork, exec, subprocess, multiprocessing, in the three ways of following."""
import os

from harness import interpreters, process, trace
from harness.runner import alone, each

# in_child() calls leaf() 50 times, in_parent() 30 times: {action: {children's total}}
LEAVES = {"exec": 100, "subprocess": 100, "tree": 200, "thread": 50}


def run(t, minor, action, *options):
    interp = interpreters.one(minor)
    target = process.Target(interp, "forks", command=process.script(interp, "forks.py", action))
    tracer = process.Tracer("-p", target.pid, *options, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    result = target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return target, result, trace.load(t.path("trace.json")), text


def leaves(got, pid=None):
    return sum(1 for s in got.named("leaf") if pid is None or s.event["pid"] == pid)


@each(minor=["3.8", "3.10", "3.12", "3.13"])
@each(action=sorted(LEAVES))
def test_exact(t, minor, action):
    """Children are traced from their first call, and what they exec too."""
    target, result, got, _ = run(t, minor, action, "--follow=exact")
    t.equal(leaves(got, target.pid), 30, "calls in the parent")
    t.equal(leaves(got), 30 + LEAVES[action], "calls in all")
    for child in result["children"]:
        t.check(child in got.processes, "child %d is not in the trace: %s", child, got.processes)


@each(minor=["3.8", "3.11", "3.12"])
def test_pool(t, minor):
    """A multiprocessing pool: the trace counts the tasks that the program counts."""
    _, result, got, _ = run(t, minor, "pool", "--follow=exact")
    t.equal(len(got.named("task")), result["tasks"], "slices of task()")
    t.equal(leaves(got), result["tasks"], "slices of leaf()")
    used = {s.event["pid"] for s in got.named("task")}
    t.equal(sorted(used), result["children"], "processes that ran tasks")
    print("%d tasks in %d processes" % (result["tasks"], len(used)))


def test_orphan(t):
    """The traced process forks and ends at once: the recording goes on with the child."""
    interp = interpreters.one()
    target = process.Target(interp, "forks", command=process.script(interp, "forks.py", "orphan"))
    tracer = process.Tracer("-p", target.pid, "--follow=exact", "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    child, = target.done()["children"]
    target.finish()
    tracer.expect(0)
    got = trace.load(t.path("trace.json"))
    t.equal(leaves(got, child), 50, "calls in the child")


@each(action=sorted(LEAVES))
def test_late(t, action):
    """Probes reach the child when the fork is seen; the parent's own calls are exact."""
    target, _, got, _ = run(t, None, action, "--follow=late")
    t.equal(leaves(got, target.pid), 30, "calls in the parent")
    t.check(leaves(got) <= 30 + LEAVES[action], "more calls than were made: %d", leaves(got))


@each(minor=["3.8", "3.11", "3.12", "3.14"])
@each(action=["itself", "itself_twice"])
@each(follow=["late", "no"])
def test_executes_itself(t, minor, action, follow):
    """The probes of a process stay with it: what it executes is traced from its first call."""
    target, _, got, _ = run(t, minor, action, "--follow=" + follow)
    t.equal(set(got.processes), {target.pid}, "processes in the trace")
    t.equal(leaves(got), 30 + 50, "calls before and behind")


def test_executes_while_attaching(t):
    """Children that execute the interpreter before, while and after their probes are attached: each
    is recorded sooner or later."""
    interp = interpreters.one()
    end = process.install_programs(interp) + "/end-%d" % os.getpid()
    target = process.Target(interp, "forks", command=process.script(
        interp, "forks.py", "executing", end))
    tracer = process.Tracer("-p", target.pid, "--follow=late", "-o", t.path("trace.json"),
                            "--control", t.path("control"))
    tracer.recording()
    target.go()
    children = target.done()["children"]

    def recorded():
        process.run_tool("ctl", "--socket", t.path("control"), "save", t.path("copy.json"))
        got = trace.load(t.path("copy.json"), check=False)
        os.unlink(t.path("copy.json"))
        return all(leaves(got, child) for child in children)
    process.wait_until(recorded, "calls of each child")
    with open((interp.root or "") + end, "w"):
        tracer.expect(0, stop=True)
    os.unlink((interp.root or "") + end)
    t.equal(target.finish(), 0, "exit status of the target")


@each(option=["--no-follow", "--follow=no"])
@each(action=["exec", "tree", "thread"])
def test_not_followed(t, action, option):
    target, _, got, _ = run(t, None, action, option)
    t.equal(set(got.processes), {target.pid}, "processes in the trace")
    t.equal(leaves(got), 30, "calls in all")


@each(minor=["3.10", "3.12"])
def test_launch_shell(t, minor):
    """The command need not be Python itself: what it starts is followed."""
    interp = interpreters.one(minor)
    command = process.drive_command(interp, "churn", "5", options=("--go", "--exit"))
    out, _ = process.run_tool("-o", t.path("trace.json"), "--", "sh", "-c", '"$@"; exit 0', "sh",
                              *command, c_default=True)
    t.has(out, "done")
    got = trace.load(t.path("trace.json"))
    t.equal(len(got.named("workload")), 1, "slices of workload()")
    t.equal(got.counts()["run_text"], 5, "slices of run_text()")


@each(status=[0, 3, 77])
def test_exit_status_is_passed_on(t, status):
    interp = interpreters.one()
    process.run_tool("-o", t.path("trace.json"), "--", interp.path, "-c",
                     "import sys; sys.exit(%d)" % status, code=status, c_default=True)
    trace.load(t.path("trace.json"))


def test_two_pids(t):
    interp = interpreters.one()
    other = interpreters.one("3.10")
    targets = [process.Target(i, "churn", "20") for i in (interp, interp, other)]
    tracer = process.Tracer("-p", ",".join(str(x.pid) for x in targets), "-o",
                            t.path("trace.json"), c_default=True)
    tracer.recording()
    for target in targets:
        target.go()
        target.done()
    tracer.expect(0, stop=True)
    got = trace.load(t.path("trace.json"))
    for target in targets:
        t.equal(target.finish(), 0, "exit status of the target")
        runs = [s for s in got.named("run_text") if s.event["pid"] == target.pid]
        t.equal(len(runs), 20, "slices of run_text() in %d" % target.pid)
        # open when it was attached to: in the snapshot, each by its own interpreter's layout
        held = {s.name for s in got.slices()
                if s.event["pid"] == target.pid and s.file.endswith("/drive.py")}
        t.check({"<module>", "main"} <= held, "of drive.py in %d: %s", target.pid, held)


@alone
def test_all(t):
    """-a: those that run, and those that start later."""
    first = process.Target(interpreters.one(), "churn", "20")
    tracer = process.Tracer("-a", "-v", "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    second = process.Target(interpreters.one(), "churn", "10")
    copy = process.Copy(interpreters.one("3.9"))  # nobody ran it so far
    third = process.Target(copy.interpreter, "churn", command=copy.drive("churn", "7"),
                           env=copy.env())
    tracer.err.wait("process %d is traced" % third.pid, "pytrace-bpf")
    for target in (first, second, third):
        target.go()
        target.done()
    code = tracer.stop()
    for target in (first, second, third):
        t.equal(target.finish(), 0, "exit status of the target")
    t.check(code in (0, 6), "exit code %s\n%s", code, tracer.err.text())
    got = trace.load(t.path("trace.json.gz"))
    for target, count in ((first, 20), (second, 10), (third, 7)):
        runs = [s for s in got.named("run_text") if s.event["pid"] == target.pid]
        t.equal(len(runs), count, "slices of run_text() in %s" % target.interpreter)
