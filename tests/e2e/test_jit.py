# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""CPython with its JIT on is refused: calls made in JIT code would be missing. The same interpreter
with its JIT off, or left as the build has it by default (off), is traced as ever."""
import json
import os
import shutil
import tempfile

from harness import interpreters, process, trace
from harness.runner import Skip, alone, each

WHY = "with the JIT on"
HINT = "PYTHON_JIT=0"


def with_jit():
    found = []
    for interp in interpreters.every():
        if interp.minor >= (3, 14):
            with open(interp.file, "rb") as file:
                if b"\0PYTHON_JIT\0" in file.read():
                    found.append(interp)
    return found


def one():
    found = [i for i in with_jit() if not i.name.endswith("d")]
    if not found:
        raise Skip("no interpreter with a JIT is installed here")
    return found[-1]


def environment(jit):
    return process.environment() if jit is None else process.environment(PYTHON_JIT=jit)


def check_runs(t, got, count, pid=None):
    runs = [s for s in got.named("run_text") if pid is None or s.event["pid"] == pid]
    t.equal(len(runs), count, "slices of run_text()")


@each(interp=with_jit)
def test_attach_on(t, interp):
    target = process.Target(interp, "churn", "20", env=environment("1"))
    _, err = process.run_tool("-p", target.pid, "--engine", "frame", "-o", t.path("trace.json"),
                              code=5)
    t.has(err, str(target.pid), WHY, HINT)
    _, err = process.run_tool("-p", target.pid, "--lines", "-o", t.path("trace.json"), code=5)
    t.has(err, str(target.pid), WHY, HINT)
    t.check(not os.path.exists(t.path("trace.json")), "there is a trace")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("samples.json"), "-d", "60s")
    t.has(tracer.recording(), "samples a second")
    t.has(tracer.expect(0, stop=True), WHY, "no exact engine works here", "samples are taken")
    out, _ = process.run_tool("check", "-p", target.pid, code=5)
    t.has(out, WHY, HINT)
    out, _ = process.run_tool("list")
    t.has(out, "process %d runs CPython %s %s" % (target.pid, interp.version, WHY))
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")


@each(interp=with_jit)
@each(jit=["0", None])
def test_attach_off(t, interp, jit):
    target = process.Target(interp, "churn", "20", env=environment(jit))
    out, _ = process.run_tool("check", "-p", target.pid)
    t.check(WHY not in out, "check says:\n%s", out)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    check_runs(t, trace.load(t.path("trace.json")), 20)


@each(interp=with_jit)
def test_launch_on(t, interp):
    command = process.drive_command(interp, "churn", "20", options=("--go", "--exit"))
    _, err = process.run_tool("-o", t.path("trace.json"), "--", *command, code=5,
                              env=environment("1"))
    t.has(err, WHY, HINT)
    t.check(not os.path.exists(t.path("trace.json")), "there is a trace")


@each(interp=with_jit)
@each(jit=["0", None])
def test_launch_off(t, interp, jit):
    command = process.drive_command(interp, "churn", "20", options=("--go", "--exit"))
    process.run_tool("-o", t.path("trace.json"), "--", *command, env=environment(jit))
    check_runs(t, trace.load(t.path("trace.json")), 20)


def test_environment_is_ignored(t):
    """python -E does not read PYTHON_JIT: what the process says counts."""
    interp = one()
    folder = process.install_programs(interp)
    command = interp.command("-E", folder + "/drive.py", "churn", "20")
    target = process.Target(interp, "churn", command=command, env=environment("1"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    check_runs(t, trace.load(t.path("trace.json")), 20)


def test_turned_on_later(t):
    """Attached while it still imports site, before the interpreter turns its JIT on."""
    interp = one()
    folder = tempfile.mkdtemp(prefix="pytrace-site.", dir=interp.root + "/tmp" if interp.root
                              else None)
    process.CLEAN_UP.append(folder)
    os.chmod(folder, 0o755)
    with open(os.path.join(folder, "sitecustomize.py"), "w") as file:
        file.write("import os\nos.write(1, b'ready %d\\n' % os.getpid())\nos.read(0, 1)\n")
    env = process.environment(PYTHON_JIT="1", PYTHONPATH=folder[len(interp.root or ""):])
    try:
        target = process.Target(interp, "sleep", env=env, command=interp.command(
            "-c", "import sys; sys.stdin.read(1)"))
        tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
        tracer.recording()
        target.go()
        t.has(tracer.expect(5), WHY, HINT)
        t.equal(target.finish(), 0, "exit status of the target")
    finally:
        shutil.rmtree(folder)


def touch(path):
    with open(path, "w"):
        pass


def pid_in(path):
    """The number in a file, or None as long as there is none."""
    try:
        with open(path) as file:
            return int(file.read() or "0") or None
    except FileNotFoundError:
        return None


@each(follow=["exact", "late"])
def test_child_on(t, follow):
    """A child that executes Python with the JIT on is left out; its parent is traced."""
    interp = one()
    names = process.install_programs(interp) + "/child-" + follow
    child = ("def in_child(): pass\nimport os\n"
             "with open(%r, 'w') as file: file.write(str(os.getpid()))\n"
             "while not os.path.exists(%r): pass\n"
             "for i in range(7): in_child()")
    text = ("import os, subprocess, sys\n"
            "def child(jit):\n"
            "    subprocess.run([sys.executable, '-c', %r.replace('JIT', jit)],\n"
            "                   env=dict(os.environ, PYTHON_JIT=jit), check=True)\n"
            "child('1')\n"
            "child('0')\n" % (child % (names + "-pid.JIT", names + "-go.JIT")))
    outside = (interp.root or "") + names
    tracer = process.Tracer("--follow=" + follow, "-o", t.path("trace.json"), "--control",
                            t.path("control"), "--", *interp.command("-c", text),
                            env=environment("0"))

    def events():
        answer, _ = process.run_tool("ctl", "--socket", t.path("control"), "status")
        return json.loads(answer)["events"]

    # Probes for each of its forks take a while: it may have got as far as turning its JIT on.
    tracer.err.wait(WHY, "pytrace-bpf")
    touch(outside + "-go.1")
    process.wait_until(lambda: pid_in(outside + "-pid.0"), "the second child")
    # It calls os.path.exists() all the time; its parent makes a few calls and waits.
    least = events() + 5000
    process.wait_until(lambda: events() >= least, "calls of the second child")
    touch(outside + "-go.0")
    err = tracer.expect(0)
    t.check("is not traced" in err or "no longer traced" in err, "no warning in:\n%s", err)
    t.equal(err.count(WHY), 1, "warnings in:\n" + err)
    got = trace.load(t.path("trace.json"))
    t.equal(len(got.named("child")), 2, "slices of child()")
    t.equal(len(got.named("in_child")), 7, "slices of in_child() of the child without JIT")


@alone
def test_all(t):
    """-a passes over it with one warning, those that run and those that start later."""
    interp = one()
    first = [process.Target(interp, "churn", "20", env=environment(jit)) for jit in "10"]
    tracer = process.Tracer("-a", "-o", t.path("trace.json"))
    tracer.recording()
    later = [process.Target(interp, "churn", "20", env=environment(jit)) for jit in "10"]
    for on in (first[0], later[0]):
        tracer.err.wait("process %d runs" % on.pid, "pytrace-bpf")
    for target in first + later:
        target.go()
        target.done()
    code = tracer.stop()
    for target in first + later:
        t.equal(target.finish(), 0, "exit status of the target")
    err = tracer.err.text()
    t.check(code in (0, 6), "exit code %s\n%s", code, err)
    got = trace.load(t.path("trace.json"))
    for on, off in (first, later):
        t.equal(err.count("process %d runs" % on.pid), 1, "warnings in:\n" + err)
        check_runs(t, got, 0, on.pid)
        check_runs(t, got, 20, off.pid)
