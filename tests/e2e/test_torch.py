# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Beside PyTorch's own profiler: the same script under torch.profiler with with_stack=True, in
another run, has the same tree of Python functions."""
import collections
import copy
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import types

from harness import hta, interpreters, process, trace
from harness.runner import Skip, each, limit

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


def op_tree(events):
    """(depth, name) in the order of the starts, of (name, begin, end) of one thread."""
    ends, tree = [], []
    for name, begin, end in sorted(events, key=lambda e: (e[1], -e[2])):
        while ends and ends[-1] <= begin:
            ends.pop()
        tree.append((len(ends), name))
        ends.append(end)
    return tree


@limit(LIMIT_S)
def test_operators(t):
    """--torch: the same operators, nested in the same way, as PyTorch's profiler has in another run;
    those that fail, and those of another thread."""
    interp = with_torch()
    out = process.install_programs(interp) + "/torch-ops.json"
    done = subprocess.run(process.script(interp, "torch_ops.py", "profile", out), timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    t.equal(done.returncode, 0, "exit status under torch.profiler, which said\n" + done.stdout)
    with open(interp.root + out) as file:
        theirs = [e for e in json.load(file) if e[0].startswith("aten::")]
    target = process.Target(interp, "torch", command=process.script(interp, "torch_ops.py"))
    tracer = process.Tracer("-v", "-p", target.pid, "-o", t.path("trace.json"), "--torch")
    tracer.recording(120)
    target.go()
    t.equal(target.popen.wait(60), 0, "exit status")
    text = tracer.expect(0)
    t.has(text, "nothing lost")
    t.check("are not recorded" not in text, "some are not recorded:\n%s", text)
    got = trace.load(t.path("trace.json"))
    ops = [s for s in got.spans if s.category == "cpu_op"]
    main = [s for s in ops if s.event["tid"] == s.event["pid"]]
    t.equal(collections.Counter(s.name for s in main), collections.Counter(e[0] for e in theirs),
            "calls of each operator")
    t.equal(op_tree([(s.name, s.begin, s.end) for s in main]),
            op_tree([e[:3] for e in theirs]), "operators within operators")
    t.equal([s.name for s in ops if s.name == "aten::neg" and s not in main], ["aten::neg"] * 50,
            "in another thread")
    t.equal([s.args for s in ops if {"end lost", "end after loss", "open at end"} & set(s.args)], [],
            "ends that were not seen")
    t.equal(sum(r["cat"] == "cpu_op" for r in hta.check(t.path("trace.json"))), len(ops),
            "operators as HTA reads them")
    print("%d operators, %d names" % (len(ops), len({s.name for s in ops})))


@limit(LIMIT_S)
def test_tensors(t):
    """--args, --retval: element type and shape of tensors, as PyTorch says; by address only of those whose
    shape is not where it lies else, and of damaged ones."""
    interp = with_torch()
    target = process.Target(interp, "torch_values")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--args", "take", "--retval",
                            "take")
    tracer.recording()
    target.go()
    expected = target.done()
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    calls = sorted(trace.load(t.path("trace.json")).named("take"), key=lambda s: s.begin)
    t.equal([s.args["func_args"]["x"] for s in calls], expected, "tensors")
    t.equal([s.args["return_value"] for s in calls], expected, "results")
    print("%d tensors" % len(calls))


# How the double is compiled: as Debian does it; without anything that the kernel emulates at the
# ends; with frames that do not move; and one that is loaded late.
BUILDS = {
    "hardened": ["-O2", "-fstack-protector-strong", "-fcf-protection"],
    "plain": ["-O2", "-fno-stack-protector", "-fcf-protection=none", "-fno-plt"],
    "slow": ["-O0", "-fno-omit-frame-pointer"],
    "late": ["-O1", "-fomit-frame-pointer", "-fstack-protector-all"],
}


def torch_double(folder, build):
    if not shutil.which("c++"):
        raise Skip("no C++ compiler")
    library = os.path.join(folder, "libtorch_double.so")
    subprocess.run(["c++", "-shared", "-fPIC", "-s", *BUILDS[build],
                    os.path.join(process.PROGRAMS, "torch_double.cc"), "-o", library], check=True)
    return library


def check_double(t, got, notes):
    ops = [s for s in got.spans if s.category == "cpu_op"]
    tree = op_tree([(s.name, s.begin, s.end) for s in ops])
    t.equal(tree, [tuple(n) for n in notes], "operators as they note themselves")
    t.equal({s.args.get("overload") for s in ops if s.name == "aten::add"}, {"Tensor"}, "overload")
    t.equal([s.parent.name for s in ops if s.parent.is_call][:60], ["inner"] * 60,
            "Python functions")
    unseen = {s.name for s in ops if "end lost" in s.args}
    t.equal(unseen, {"aten::passes"}, "operators that no code of their own left")
    t.equal(len(ops), len(notes), "operators")
    return ops


@each(build=list(BUILDS))
def test_double(t, build):
    """Operators that end by a ret, an exception or by nobody's notice, in any build; by way of a
    capture for one of them."""
    library = torch_double(t.folder, build)
    late = "1" if build == "late" else ""
    jumps = "1" if "-O2" in BUILDS[build] else ""
    raw = build == "slow"
    target = process.Target(interpreters.one(), "torch_calls", env=process.environment(
        TORCH_LIB=library, TORCH_LATE=late, TORCH_GO=t.path("go"), TORCH_JUMPS=jumps))
    tracer = process.Tracer("-v", "--torch", "-p", target.pid, "-o",
                            t.path("raw.ptcap" if raw else "trace.json"))
    tracer.recording()
    target.go()
    if late:
        tracer.err.wait("attached to the PyTorch operators of '%s'" % library, "the probes")
        open(t.path("go"), "w").close()
    notes = target.done()["notes"]
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    if raw:
        process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"))
    got = trace.load(t.path("trace.json"))
    ops = check_double(t, got, notes)
    hta.check(t.path("trace.json"))
    t.equal("1 of 7 operators of '%s' are not recorded, the first is jumps: " % library in text,
            bool(jumps), "what is said of jumps")
    told = [e["args"]["detail"] for e in got.events if e["ph"] == "i" and e["cat"] == "cuda"]
    t.equal(told, [library] if late else [], "libraries that came late")
    print("%d operators" % len(ops))


def test_operators_none(t):
    """A process without PyTorch is traced, and that it has none is said."""
    interp = interpreters.one()
    _, err = process.run_tool("-o", t.path("trace.json"), "--torch", "--",
                              *interp.command("-c", "def f(): pass\nf()"))
    t.has(err, "no library with PyTorch's operators")
    t.equal(len(trace.load(t.path("trace.json")).named("f")), 1, "calls of f")


@each(lacks=["cookie", "uprobe-multi"])
def test_operators_older_kernel(t, lacks):
    """What --torch needs is not there: that is said, and the rest goes on."""
    interp = interpreters.one()
    _, err = process.run_tool("-o", t.path("trace.json"), "--no-" + lacks, "--torch", "--cuda",
                              "none", "--", *interp.command("-c", "def f(): pass\nf()"))
    t.has(err, "--torch: not recorded")
    t.check("--cuda" not in err, "it says:\n%s", err)
    t.equal(len(trace.load(t.path("trace.json")).named("f")), 1, "calls of f")


def hta_document():
    call = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1,
            "ts": 10.5, "dur": 2.25, "args": {"External id": 1, "correlation": 2, "cbid": 211,
                                              "stream": "0x10", "kernel": "add(int*)"}}
    op = {"ph": "X", "cat": "cpu_op", "name": "aten::add", "pid": 1, "tid": 1, "ts": 10.0,
          "dur": 4.0, "args": {"External id": 1}}
    kernel = {"ph": "X", "cat": "kernel", "name": "add(int*)", "pid": 0, "tid": 7, "ts": 12.0,
              "dur": 1.0, "args": {"External id": 1, "correlation": 2, "stream": 7}}
    return {"distributedInfo": {"rank": 3}, "baseTimeNanoseconds": 1, "traceEvents":
            [op, call, kernel, {"ph": "M", "name": "process_name", "pid": 1}]}


def lacks_rank(document):
    del document["distributedInfo"]


def wrong_call(document):
    document["traceEvents"][2]["args"]["correlation"] = 9


def no_call(document):
    del document["traceEvents"][2]["args"]["correlation"]


def two_calls(document):
    document["traceEvents"].append(dict(document["traceEvents"][1]))


def text_id(document):
    document["traceEvents"][1]["args"]["correlation"] = "2"


def other_launch(document):
    document["traceEvents"][1]["name"] = "myLaunch"


def same_op(document):
    document["traceEvents"].append(dict(document["traceEvents"][0]))


def op_missing(document):
    document["traceEvents"][1]["args"]["External id"] = 7


def backwards(document):
    document["traceEvents"][0]["dur"] = -5.0


@each(harm=[None, lacks_rank, wrong_call, no_call, two_calls, text_id, other_launch, same_op,
            op_missing, backwards])
def test_hta_checks(t, harm):
    """The check of what HTA asks for finds each harm, and none where there is none."""
    document = hta_document()
    if harm:
        harm(document)
    with open(t.path("hta.json"), "w") as file:
        json.dump(document, file, indent=1)
    try:
        rows = hta.check(t.path("hta.json"))
        t.check(not harm, "%s was not found", harm and harm.__name__)
        t.equal([r["stream"] for r in rows], [-1, -1, 7], "streams")
    except hta.HtaError as error:
        t.check(harm, "found: %s", error)


def gpu_check():
    path = os.path.join(process.TOP, "scripts", "gpu-check")
    loader = importlib.machinery.SourceFileLoader("gpu_check", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
    loader.exec_module(module)
    return module


def x(category, name, ts, **args):
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": 1.0,
            "args": args}


# A step as PyTorch's profiler has it: rows of its trace, raw events; a launch before the step.
THEIR_ROWS = [
    dict(x("user_annotation", "gpu_check", 10.0), dur=100.0),
    x("cuda_runtime", "cudaLaunchKernel", 5.0, correlation=1),
    x("cuda_runtime", "cudaLaunchKernel_v7000", 20.0, correlation=2),
    x("cuda_driver", "cuLaunchKernelEx", 30.0, correlation=3),
    x("cuda_runtime", "cudaMemcpyAsync", 40.0, correlation=4),
    x("cuda_runtime", "cudaDeviceSynchronize", 50.0, correlation=5),
    x("kernel", "void add<4u, float>(int, float*)", 25.0, correlation=2),
    x("kernel", "triton_poi_0", 35.0, correlation=3),
    x("gpu_memcpy", "Memcpy HtoD", 45.0, correlation=4)]
THEIR_RAW = [["gpu_check", 10000, 110000], ["aten::add", 11000, 12000], ["aten::add", 13000, 14000],
             ["aten::mul", 9000, 9500]]
OUR_ROWS = [
    dict(x("python_function", "<string>(19): gpu_check_step", 1010.0), dur=100.0),
    x("cuda_runtime", "cudaLaunchKernel", 1005.0, kernel="kernel 0x1"),
    x("cuda_runtime", "cudaLaunchKernel", 1020.0, kernel="void add<4, float>(int, float *)"),
    x("cuda_driver", "cuLaunchKernelEx", 1030.0, kernel="triton_poi_0"),
    x("cuda_runtime", "cudaMemcpyAsync", 1040.0),
    x("cpu_op", "aten::add", 1011.0), x("cpu_op", "aten::add", 1013.0),
    x("cpu_op", "aten::mul", 1009.0), {"ph": "M", "name": "process_name", "pid": 1}]


def gpu_lost(ours):
    del ours[3]


def gpu_named(ours):
    ours[3]["args"]["kernel"] = "kernel 0x2"


def gpu_order(ours):
    ours[2]["ts"], ours[4]["ts"] = ours[4]["ts"], ours[2]["ts"]


def gpu_op(ours):
    ours.append(x("cpu_op", "aten::mul", 1012.0))


@each(harm=[None, gpu_lost, gpu_named, gpu_order, gpu_op])
def test_gpu_check_compares(t, harm):
    """scripts/gpu-check finds each difference between the two traces, and none that is none."""
    check = gpu_check()
    rows = copy.deepcopy(OUR_ROWS)
    if harm:
        harm(rows)
    wrong = check.compare(*check.theirs(THEIR_ROWS, THEIR_RAW), *check.ours(rows))
    t.equal(bool(wrong), bool(harm), "differences: %s" % wrong)
    t.equal(len(check.theirs(THEIR_ROWS, THEIR_RAW)[0]), 3, "launches in the step")


def run_gpu_check(*options):
    done = subprocess.run([os.path.join(process.TOP, "scripts", "gpu-check"), *options],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stdout, done.stderr


def test_gpu_check_refuses(t):
    """What is missing is said, all of it at once, and nothing is recorded."""
    if os.path.exists("/dev/nvidiactl"):
        raise Skip("there is a GPU")
    code, out, said = run_gpu_check("--tool", process.TOOL)
    t.equal((code, out), (3, ""), "exit status and output")
    t.has(said, "no NVIDIA GPU")
    t.check("pytrace-bpf does not start" not in said, "it says: %s", said)
    broken = t.path("broken")
    with open(broken, "w") as file:
        file.write("#!/bin/sh\necho broken: no libsomething.so.7 >&2\nexit 127\n")
    os.chmod(broken, 0o755)
    code, _, said = run_gpu_check("--tool", broken, "--cpu", "--check", "--python", "false")
    t.equal(code, 3, "exit status")
    t.has(said, "does not start: broken: no libsomething.so.7")
    t.has(said, "'false' cannot import torch")
    code, _, said = run_gpu_check("--tool", t.path("nothing"), "--cpu", "--python",
                                  t.path("no-python"))
    t.has(said, "nothing is not there: run make")
    t.has(said, "no-python' cannot be run: No such file or directory")
    code, _, said = run_gpu_check("--tool", process.TOOL, "--cpu", "--limit", "1", "--python",
                                  "sh -c 'exec sleep 100'")
    t.equal(code, 3, "exit status")
    t.has(said, "1 seconds were not enough (--limit): it was still ")


def test_gpu_check_kernels(t):
    """Of machines whose kernels cannot do it, each is told what it lacks."""
    check = gpu_check()
    here = check.kernel_lacks()
    t.equal(here, [], "of this one")
    files = {"/proc/version": "Linux version 4.4.0 (gVisor)"}
    check.read = lambda path: files.get(path, "")
    t.has("".join(check.kernel_lacks()), "this is gVisor")
    files.clear()
    files["/sys/kernel/security/lockdown"] = "none integrity [confidentiality]"
    check.platform = types.SimpleNamespace(release=lambda: "5.15.0-generic")
    check.os = types.SimpleNamespace(path=types.SimpleNamespace(exists=lambda path: False))
    for error, text in (("ENOSYS", "CONFIG_BPF_SYSCALL"), ("EPERM", "CAP_BPF"),
                        ("EINVAL", "bpf() fails: EINVAL")):
        check.bpf_error = lambda error=error: error
        lacks = check.kernel_lacks()
        t.equal(len(lacks), 5, "what is missing: %s" % lacks)
        for part in ("Linux 5.15.0-generic; probes on CUDA functions need 6.6", text,
                     "/sys/kernel/btf/vmlinux", "CONFIG_UPROBE_EVENTS", "locked down"):
            t.has("\n".join(lacks), part)
