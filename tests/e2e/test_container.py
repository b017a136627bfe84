# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A target in another mount and pid namespace: a chroot in `unshare -pm`."""
import os

from harness import compare, interpreters, process, runner, trace
from harness.runner import Skip, each


def contained(interp, *command):
    """Starts the command as a container's process; returns (Target, its pid on the host)."""
    # /proc belongs to the new pid namespace, so that the target has its own view of itself.
    script = 'mount -t proc none "$0/proc" && cd / && exec "$@"'
    target = process.Target(interp, "contained", command=list(command),
                            wrap=["unshare", "--fork", "-p", "-m", "sh", "-c", script, interp.root])
    inside = target.ready()
    for pid in runner.children_of(target.popen.pid):
        exe = os.readlink("/proc/%d/exe" % pid)
        if "python" in exe:
            return target, pid, inside
    raise process.ToolError("no python below unshare")


def roots():
    found = [i for i in interpreters.every() if i.root]
    if not found:
        raise SystemExit("no roots; run scripts/interpreters.sh")
    return [i for i in found if not i.name.endswith("d")]


@each(interp=roots)
def test_attach(t, interp):
    target, pid, inside = contained(interp, *process.drive_command(interp, "callforms"))
    t.check(inside != pid and inside < 20, "pid %d on the host, %d inside", pid, inside)
    tracer = process.Tracer("-p", pid, "-o", t.path("trace.json"), c_default=True)
    t.has(tracer.recording(), str(pid))
    target.go()
    target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    # Both views of the pid, and the container's own view of the files.
    labels = [e["args"] for e in got.events if e["ph"] == "M" and e["pid"] == pid and
              e["name"] in ("process_labels", "process_name")]
    t.check(any(str(inside) in str(x) for x in labels), "the pid inside, %d, is not in %s", inside,
            labels)
    workload, = got.named("workload")
    t.check(workload.file.startswith("/tmp/pytrace-e2e"), "the file as the host sees it: %s",
            workload.file)
    oracle = compare.Oracle(process.run_oracle(interp, "callforms", folder=t.folder))
    events, threads = compare.compare(oracle, got, pid)
    print("%d enters and exits, pid %d inside" % (events, inside))


def test_list(t):
    interp = roots()[0]
    target, pid, inside = contained(interp, *process.drive_command(interp, "churn", "3"))
    out, _ = process.run_tool("list")
    row = [line for line in out.splitlines() if str(pid) in line.split()]
    t.equal(len(row), 1, "rows for %d in:\n%s" % (pid, out))
    t.has(row[0], "%d.%d" % interp.minor)
    target.go()
    target.done()
    target.finish()


@each(name=["bullseye", "trixie"])
def test_through_the_loader(t, name):
    """Started through the dynamic loader: /proc/PID/exe is the loader, not python."""
    interp = next((i for i in interpreters.every() if i.name.startswith(name)), None)
    if not interp:
        raise Skip("no root " + name)
    folder = process.install_programs(interp)
    command = ["chroot", interp.root, "/lib64/ld-linux-x86-64.so.2", interp.path,
               folder + "/drive.py", "callforms"]
    target = process.Target(interp, "callforms", command=command)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), c_default=True)
    tracer.recording()
    target.go()
    target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    oracle = compare.Oracle(process.run_oracle(interp, "callforms", folder=t.folder))
    compare.compare(oracle, trace.load(t.path("trace.json")), target.pid)
