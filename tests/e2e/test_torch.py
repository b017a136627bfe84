# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Beside PyTorch's own profiler: the same script under torch.profiler with with_stack=True, in
another run, has the same tree of Python functions."""
import collections
import json
import re
import subprocess

from harness import interpreters, process, trace
from harness.runner import Skip, limit

LIMIT_S = 240
MODULE_CALL = "module.py: _wrapped_call_impl"


def with_torch():
    for interp in interpreters.every():
        if interp.root and subprocess.run(interp.command(
                "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('torch'))")
                ).returncode == 0:
            return interp
    raise Skip("no root has a PyTorch that Python can import")


def plain(name):
    """A name as both traces have it: without addresses, folders that PyTorch trims, lines (of a
    generator that goes on PyTorch gives the line, not the function's) and the qualifying part."""
    found = re.match(r"(.*)\((\d+)\): (.*)$", name)
    if not found:
        return re.sub(r" at 0x[0-9a-f]+", "", name)
    return found.group(1).split("/dist-packages/")[-1].split("/")[-1] + ": " + \
        re.sub(r"^.*\.", "", found.group(3))


def torch_tree(path):
    """The calls in workload() as (depth, name, line of the call), in the order of their starts."""
    with open(path) as file:
        events = [e for e in json.load(file)["traceEvents"] if e.get("cat") == "python_function"]
    by_parent = {}
    for e in events:
        by_parent.setdefault(e["args"].get("Python parent id"), []).append(e)
    root, = [e for e in events if e["name"].endswith(": workload")]
    calls = []

    def walk(event, depth):
        name = plain(event["name"])
        if name.startswith("nn.Module: "):  # PyTorch names this call by its module instead
            name = MODULE_CALL
        calls.append((depth, name, int(event["args"]["CallFrom"].rsplit(":", 1)[1])))
        for child in sorted(by_parent.get(event["args"]["Python id"], []),
                            key=lambda e: (e["ts"], e["args"]["Python id"])):
            walk(child, depth + 1)
    walk(root, 0)
    return calls[1:]


def our_tree(root):
    calls = []

    def walk(s, depth):
        calls.append((depth, plain(s.event["name"]), s.args.get("CallFrom")))
        for child in trace.lift(s.children):
            walk(child, depth + 1)
    walk(root, 0)
    return calls[1:]


def without_c(calls):
    """Of the Python functions alone: each with the number of Python callers, and the line."""
    stack, result = [], []
    for depth, name, line in calls:
        del stack[depth - 1:]
        is_c = name.startswith("<")
        if not is_c:
            result.append((sum(stack), name, line))
        stack.append(not is_c)
    return result


def without_closings(ours, theirs):
    """Their calls without those that only a profiler causes: gen_close() enters a suspended
    generator expression for its end if RESUME is instrumented (Objects/genobject.c, 3.13+)."""
    kept = []
    for call in theirs:
        closing = call[1].endswith(": <genexpr>") and kept and kept[-1] == call
        if not closing or ours[len(kept):len(kept) + 1] == [call]:
            kept.append(call)
    return kept


def c_counts(calls):
    """By name without the type: PyTorch shows a method's first object for all of its calls."""
    return collections.Counter(name.split(" of ")[0] for _, name, _ in calls
                               if name.startswith("<"))


@limit(LIMIT_S)
def test_same_tree(t):
    interp = with_torch()
    command = process.script(interp, "real_torch.py")
    out = process.install_programs(interp) + "/torch-profile.json"
    done = subprocess.run(process.script(interp, "real_torch.py", "profile", out), timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    t.equal(done.returncode, 0, "exit status under torch.profiler, which said\n" + done.stdout)
    theirs = torch_tree(interp.root + out)
    target = process.Target(interp, "torch", command=command)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--c-functions", "all",
                            "--lines")
    tracer.recording(120)
    target.go()
    t.equal(target.popen.wait(60), 0, "exit status")
    t.has(tracer.expect(0), "nothing lost")
    root, = trace.load(t.path("trace.json")).named("workload")
    ours = our_tree(root)
    python, all_theirs = without_c(ours), without_c(theirs)
    expected = without_closings(python, all_theirs)
    for i in range(max(len(python), len(expected))):
        t.equal(python[max(0, i - 5):i + 1], expected[max(0, i - 5):i + 1],
                "Python functions up to number %d" % i)
    t.equal(c_counts(ours), c_counts(theirs), "C functions that are called")
    print("%d Python functions, %d of %d C functions; %d closings are the profiler's own" % (
        len(python), len(ours) - len(python), len(theirs) - len(all_theirs),
        len(all_theirs) - len(expected)))
