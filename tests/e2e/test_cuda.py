# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--cuda: each call that the program noted is in the trace, in its Python function, in order, with
its arguments and what it returned. The library is that of a CUDA toolkit, where there is no driver
and so nothing works, or a double whose calls succeed (programs/cuda_double.c)."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

from harness import hta, interpreters, process, trace
from harness.runner import Skip, each, have, limit

REAL = ["/usr/local/cuda*/lib64/libcudart.so.1[23]", "/usr/lib/x86_64-linux-gnu/libcudart.so.1[23]"]
NO_DRIVER = {35: "cudaErrorInsufficientDriver"}
NAMES = {0: "cudaSuccess", 2: "cudaErrorMemoryAllocation", 600: "cudaErrorNotReady"}
DRIVER_NAMES = {0: "CUDA_SUCCESS", 101: "CUDA_ERROR_INVALID_DEVICE"}


def real_library():
    found = sorted(path for pattern in REAL for path in glob.glob(pattern))
    if not found:
        raise Skip("no libcudart of a CUDA toolkit in " + " or ".join(REAL))
    return os.path.realpath(found[-1])


def doubles(folder):
    """[libcuda, libcudart], made in the folder."""
    source = os.path.join(process.PROGRAMS, "cuda_double.c")
    driver, runtime = os.path.join(folder, "driver.so"), os.path.join(folder, "runtime.so")
    version = os.path.join(folder, "version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    base = ["cc", "-O1", "-shared", "-fPIC", source]
    subprocess.run([*base, "-Wl,-soname,driver.so", "-o", driver], check=True)
    subprocess.run([*base, "-DRUNTIME", "-Wl,--version-script=" + version, "-o", runtime, driver,
                    "-Wl,-rpath,$ORIGIN"], check=True)
    return [driver, runtime]


def kernel_library(folder):
    """A stripped library with kernels, and the double of libcudart that it is linked to."""
    runtime = doubles(folder)[1]
    library = os.path.join(folder, "kernels.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-s",
                    os.path.join(process.PROGRAMS, "cuda_kernels.c"), "-o", library, runtime,
                    "-Wl,-rpath,$ORIGIN"], check=True)
    return library, runtime


def check_names(t, got, rounds, text):
    """Two kernels have names, by handle and by stub; the third is a place in the library."""
    launches = [s for s in cuda_spans(got) if s.name == "cudaLaunchKernel"]
    t.equal([s.args["kernel"] for s in launches if "kernels.so+0x" not in s.args["kernel"]],
            ["deep::scale(float*, int)", "plain"] * rounds, "names")
    places = [s.args["kernel"] for s in launches if "kernels.so+0x" in s.args["kernel"]]
    t.equal((len(places), len(set(places))), (rounds, 1), "kernels without a name: %s" % places)
    t.equal(got.document["pytrace-bpf summary"]["kernels of unknown name"], rounds, "in the summary")
    t.has(text, "%d CUDA calls have a kernel whose name is not known" % rounds)


def record(t, interp, libs, *options, count="5", kinds=(), **env):
    target = process.Target(interp, "cudart_calls", count, *kinds,
                            env=process.environment(CUDA_LIBS=":".join(libs), **env))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    result = target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    hta.check(t.path("trace.json"))
    return trace.load(t.path("trace.json")), result["calls"], text


def cuda_spans(got, *categories):
    return [s for s in got.spans if s.category in (categories or ("cuda_runtime", "cuda_driver"))]


def compare(t, got, calls, spans):
    """By thread: the same functions in the same order, within the same Python function."""
    by_thread = {}
    for s in spans:
        by_thread.setdefault(s.event["tid"], []).append(s)
    t.equal(set(by_thread), {c[0] for c in calls}, "threads that call CUDA")
    for tid, found in by_thread.items():
        own = [c for c in calls if c[0] == tid]
        t.equal([(s.parent.name if s.parent else None, s.name) for s in found],
                [(c[1], c[2]) for c in own], "calls of thread %d" % tid)
        for s, call in zip(found, own):
            known = DRIVER_NAMES if s.category == "cuda_driver" else {**NAMES, **NO_DRIVER}
            t.equal(s.args["return"], known[call[3]], s.name)
            t.check(s.category == ("cuda_runtime" if s.name.startswith("cuda") else "cuda_driver"),
                    "%s is of %s", s.name, s.category)
    ids = [s.args["correlation"] for s in spans]
    t.equal(len(set(ids)), len(ids), "correlation ids")


def failures(got):
    return [e for e in got.events if e["ph"] == "i" and e["cat"] == "cuda_error"]


def outside():
    return [i for i in interpreters.every() if not i.root]


@each(interp=outside)
def test_real(t, interp):
    """The toolkit's libcudart: every call fails, and says so."""
    got, calls, _ = record(t, interp, [real_library()])
    spans = cuda_spans(got)
    compare(t, got, calls, spans)
    t.equal({c[3] for c in calls}, {35}, "codes that the program saw")
    t.equal(len(failures(got)), len(calls), "failures")
    first = next(s for s in spans if s.name == "cudaMemcpy")
    t.equal(first.args["kind"], "cudaMemcpyHostToDevice", "an enum")
    t.equal(first.args["count (bytes)"], 256, "bytes")
    shot = next(s for s in spans if s.name == "cudaLaunchKernel")
    t.equal([shot.args[k] for k in ("gridDim", "blockDim", "sharedMem (bytes)", "stream", "kernel")],
            ["3,4,5", "32,2,1", 77, "0x123", "kernel 0x1234"], "a launch")
    print("%d calls" % len(spans))


CUDA_OLDER = """
import ctypes, json, sys
lib = ctypes.CDLL(sys.argv[1])
p, n, flags = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_ulonglong
out, other, status, number = p(), p(), ctypes.c_int(), ctypes.c_ulonglong()
ref = ctypes.byref
def calls():
    codes = [lib.cudaMemAdvise(p(0x1000), n(4096), 3, 2),
             lib.cudaMemPrefetchAsync(p(0x1000), n(64), 1, p(0x50)),
             lib.cudaStreamGetCaptureInfo(p(0x50), ref(status), ref(number)),
             lib.cudaStreamIsCapturing(p(0x50), ref(status)),
             lib.cudaSignalExternalSemaphoresAsync_v2(p(0x70), p(0x80), 9, p(0x50)),
             lib.cudaThreadSynchronize()]
    if sys.argv[2] == "12":
        return codes + [lib.cudaGraphInstantiate(ref(out), p(0x60), flags(5)),
                        lib.cudaGraphExecUpdate(p(0x90), p(0x60), p(0xa0)),
                        lib.cudaGetDriverEntryPoint(p(0xb0), ref(out), flags(1), ref(status))]
    return codes + [lib.cudaGraphInstantiate(ref(out), p(0x60), ref(other), p(0xd0), n(7)),
                    lib.cudaGraphExecUpdate(p(0x90), p(0x60), ref(other), ref(status)),
                    lib.cudaGetDriverEntryPoint(p(0xb0), ref(out), flags(1)),
                    lib.cudaProfilerInitialize(p(0xe0), p(0xf0), 1),
                    lib.cudaUnbindTexture(p(0x110))]
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(calls()), flush=True)
sys.stdin.readline()
"""
# What is shown: given to the call, and given back by it.
SHOWN_OLDER = [
    ("cudaMemAdvise", {"devPtr": "0x1000", "count (bytes)": 4096, "device": 2,
                       "advice": "cudaMemAdviseSetPreferredLocation"}, {}),
    ("cudaMemPrefetchAsync", {"devPtr": "0x1000", "count (bytes)": 64, "dstDevice": 1,
                              "stream": "0x50"}, {}),
    ("cudaStreamGetCaptureInfo", {"stream": "0x50"}, {
        "captureStatus_out": "cudaStreamCaptureStatusActive", "id_out": 77}),
    ("cudaStreamIsCapturing", {"stream": "0x50"}, {
        "pCaptureStatus": "cudaStreamCaptureStatusActive"}),
    ("cudaSignalExternalSemaphoresAsync_v2", {
        "extSemArray": "0x70", "paramsArray": "0x80", "numExtSems": 9, "stream": "0x50"}, {}),
    ("cudaThreadSynchronize", {}, {})]
SHOWN_12 = SHOWN_OLDER + [
    ("cudaGraphInstantiate", {"graph": "0x60", "flags": 5}, {"pGraphExec": "0x8000"}),
    ("cudaGraphExecUpdate", {"hGraphExec": "0x90", "hGraph": "0x60", "resultInfo": "0xa0"}, {}),
    ("cudaGetDriverEntryPoint", {"symbol": "0xb0", "flags": 1}, {
        "funcPtr": "0x8000", "driverStatus": "cudaDriverEntryPointSymbolNotFound"})]
SHOWN_11 = SHOWN_OLDER + [
    ("cudaGraphInstantiate", {"graph": "0x60", "pLogBuffer": "0xd0", "bufferSize": 7},
     {"pGraphExec": "0x8000", "pErrorNode": "0x8200"}),
    ("cudaGraphExecUpdate", {"hGraphExec": "0x90", "hGraph": "0x60"}, {
        "hErrorNode_out": "0x8100", "updateResult_out": "cudaGraphExecUpdateError"}),
    ("cudaGetDriverEntryPoint", {"symbol": "0xb0", "flags": 1}, {"funcPtr": "0x8000"}),
    ("cudaProfilerInitialize", {"configFile": "0xe0", "outputFile": "0xf0",
                                "outputMode": "cudaCSV"}, {}),
    ("cudaUnbindTexture", {"texref": "0x110"}, {})]


def older_cuda(t, kind, major):
    if kind == "real":
        cache = os.environ.get("PYTRACE_CACHE", "/var/cache/pytrace-bpf")
        found = glob.glob(cache + "/cuda%s/usr/lib/*/libcudart.so.%s*" % (major, major))
        if not found:
            raise Skip("no CUDA %s: scripts/cudart.sh fetches its libcudart" % major)
        return found[0]
    library, version = t.path("double.so"), t.path("version")
    with open(version, "w") as file:
        file.write("libcudart.so.%s { global: *; };\n" % {"11": "11.0"}.get(major, major))
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-DMAJOR=" + major,
                    "-Wl,--version-script=" + version, "-o", library,
                    os.path.join(process.PROGRAMS, "cuda_older_double.c")], check=True)
    return library


@each(what=["double-12", "real-12", "double-11", "real-11"])
def test_older(t, what):
    """Functions that have other arguments in CUDA 13 under the same name, or are not there."""
    kind, major = what.split("-")
    target = subprocess.Popen(
        interpreters.one().command("-c", CUDA_OLDER, older_cuda(t, kind, major), major),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.equal(target.stdout.readline(), "ready\n", "the target")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    say(target)
    codes = json.loads(target.stdout.readline())
    tracer.expect(0, stop=True)
    target.communicate("\n")
    t.equal(set(codes), {0 if kind == "double" else 35}, "what the calls returned")
    spans = cuda_spans(trace.load(t.path("trace.json")))
    about = {"External id", "correlation", "cbid", "return"}
    t.equal([(s.name, {k: v for k, v in s.args.items() if k not in about}) for s in spans],
            [(name, {**given, **(back if kind == "double" else {})})
             for name, given, back in (SHOWN_12 if major == "12" else SHOWN_11)],
            "calls with their arguments")


@each(mode=["auto", "runtime", "driver", "all", "none"])
def test_modes(t, mode):
    """Which calls are seen where the runtime calls the driver; success, failure, and what is given
    back."""
    interp = interpreters.one()
    libs = doubles(t.folder)
    got, calls, _ = record(t, interp, libs, "--cuda", mode, kinds=("rare",))
    spans = cuda_spans(got)
    nested = [s for s in spans if s.parent is not None and not s.parent.is_call]
    direct = [c for c in calls if not c[2].startswith("cuda")]
    if mode == "none":
        t.equal(spans, [], "calls")
        return
    if mode == "driver":
        t.equal({s.category for s in spans}, {"cuda_driver"}, "categories")
        # each call but the failed allocation, and seven of the rare ones, makes one of the driver
        inner = sum(c[2] in ("cudaMalloc", "cudaFree", "cudaMemcpy", "cudaLaunchKernel")
                    and c[3] == 0 for c in calls)
        t.equal(len(spans), inner + len(direct), "calls of the driver")
        return
    if mode == "runtime":
        t.equal({s.category for s in spans}, {"cuda_runtime"}, "categories")
        compare(t, got, [c for c in calls if c not in direct], spans)
        return
    compare(t, got, calls, [s for s in spans if s not in nested])
    if mode == "auto":
        t.equal(nested, [], "driver calls within runtime calls")
    else:
        t.check(nested and all(s.category == "cuda_driver" for s in nested), "what is nested: %s",
                [s.name for s in nested])
    check_rare(t, spans, calls)
    t.equal(len(failures(got)), 2, "failures: an allocation, a device that is not there")


def check_rare(t, spans, calls):
    rare = {s.name: s.args for s in spans if s.parent.name == "rare"}
    t.equal(rare["cudaStreamCreate"]["pStream"], "0x5000", "a pointer that came back")
    t.equal(rare["cudaEventElapsedTime"]["ms"], "1.5", "a float that came back")
    t.equal(rare["cudaGetDevice"]["device"], 3, "an int that came back")
    config = rare["cudaLaunchKernelExC"]
    t.equal([config[k] for k in ("gridDim", "blockDim", "sharedMem (bytes)", "stream", "kernel")],
            ["7,8,9", "16,2,3", 4096, "0x5000", "kernel 0x4321"], "a launch by configuration")
    direct = rare["cuLaunchKernel"]
    t.equal([direct[k] for k in ("gridDimX", "gridDimZ", "blockDimX", "blockDimZ",
                                 "sharedMemBytes (bytes)", "hStream", "kernel")],
            [1, 3, 4, 6, 7, "0x5000", "kernel 0x777"], "a launch by the driver")
    pointers = [int(s.args["devPtr"], 16) for s in spans
                if s.name == "cudaMalloc" and "devPtr" in s.args]
    t.equal(sorted(pointers), sorted(c[4] for c in calls if c[2] == "cudaMalloc" and c[4]),
            "addresses that were handed out")
    failed = [s for s in spans if s.name == "cudaMalloc" and "devPtr" not in s.args]
    t.equal([s.args["return"] for s in failed], ["cudaErrorMemoryAllocation"], "failed allocation")


def test_two_copies(t):
    """Two files with the same functions, one of them under another name."""
    interp = interpreters.one()
    libs = doubles(t.folder)
    other = os.path.join(t.folder, "libsomething.so")
    shutil.copy(libs[1], other)
    got, calls, _ = record(t, interp, [*libs, other])
    compare(t, got, calls, cuda_spans(got))
    print("%d calls" % len(calls))


def test_loaded_later(t):
    """Libraries that are loaded while the program is traced; the trace says that it came late."""
    interp = interpreters.one()
    libs = doubles(t.folder)
    target = process.Target(interp, "cudart_calls", "5", env=process.environment(
        CUDA_LIBS=":".join(libs), CUDA_LATE="1", CUDA_GO=t.path("go")))
    tracer = process.Tracer("-v", "-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    tracer.err.wait("attached to the CUDA functions of '%s'" % libs[1], "the probes")
    open(t.path("go"), "w").close()
    calls = target.done()["calls"]
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    compare(t, got, calls, cuda_spans(got))
    late = [e["args"]["detail"] for e in got.events if e["ph"] == "i" and e["cat"] == "cuda"]
    t.equal(sorted(late), sorted(libs), "libraries that came late")


def lay_out(t, where, libs):
    """Puts the libraries where a process with the environment returned would find them."""
    folder = t.path("env/lib/python3.9/site-packages/nvidia/cu13/lib" if where == "VIRTUAL_ENV"
                    else "lib")
    os.makedirs(folder)
    for path, name in zip(libs, ["libcuda.so.1", "libcudart.so.13"]):
        os.rename(path, os.path.join(folder, name))
    # by which the runtime finds the driver
    os.symlink("libcuda.so.1", os.path.join(folder, "driver.so"))
    return ([os.path.join(folder, name) for name in ["libcuda.so.1", "libcudart.so.13"]],
            {where: t.path("env") if where == "VIRTUAL_ENV" else "/nowhere:" + folder})


@each(where=["VIRTUAL_ENV", "LD_LIBRARY_PATH"])
def test_known_ahead(t, where):
    """Libraries that a process would find by name have their probes before it loads them, so a call
    made right behind that is there."""
    libs, env = lay_out(t, where, doubles(t.folder))
    follow = "no" if where == "VIRTUAL_ENV" else "auto"  # probes for one process, for all
    open(t.path("go"), "w").close()
    target = process.Target(interpreters.one(), "cudart_calls", "5", env=process.environment(
        CUDA_LIBS=":".join(libs), CUDA_LATE="1", CUDA_GO=t.path("go"), **env))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), "--follow", follow,
                            "--cuda", "auto")
    tracer.recording()
    target.go()
    calls = target.done()["calls"]
    t.equal(target.finish(), 0, "exit status of the target")
    text = tracer.expect(0)
    got = trace.load(t.path("trace.json"))
    compare(t, got, calls, cuda_spans(got))
    t.equal([e for e in got.events if e["ph"] == "i" and e["cat"] == "cuda"], [], "what came late")
    t.check("--cuda" not in text, "it says:\n%s", text)


@each(late=["", "1"])
def test_kernel_names(t, late):
    """Kernels by name, launched by their handles and stubs: in a library that is there already, and,
    by way of a capture, in one that is loaded later."""
    library, runtime = kernel_library(t.folder)
    out = t.path("raw.ptcap" if late else "trace.json")
    target = process.Target(interpreters.one(), "kernel_calls", "10", env=process.environment(
        CUDA_KERNELS=library, CUDA_LATE=late, CUDA_GO=t.path("go")))
    tracer = process.Tracer("-v", "-p", target.pid, "-o", out)
    tracer.recording()
    target.go()
    if late:
        tracer.err.wait("attached to the CUDA functions of '%s'" % runtime, "the probes")
        open(t.path("go"), "w").close()
    t.equal(target.done()["codes"], [0] * 10, "what the launches returned")
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    if late:
        _, text = process.run_tool("replay", out, "-o", t.path("trace.json"))
    check_names(t, trace.load(t.path("trace.json")), 10, text)


@each(how=["trace", "capture", "all"])
def test_loaded_kernels(t, how):
    """Kernels that the driver's API loads have the names they were asked for, until they are
    unloaded; as do launches in threads that did not load them."""
    out = t.path("raw.ptcap" if how == "capture" else "trace.json")
    target = process.Target(interpreters.one(), "driver_kernels", "20", env=process.environment(
        CUDA_LIBS=":".join(doubles(t.folder))))
    tracer = process.Tracer("-p", target.pid, "-o", out, *(["--cuda", "all"] if how == "all" else []))
    tracer.recording()
    target.go()
    names = target.done()["names"]
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    if how == "capture":
        process.run_tool("replay", out, "-o", t.path("trace.json"))
    got = trace.load(t.path("trace.json"))
    launches = sorted((s for s in cuda_spans(got) if s.name.startswith("cuLaunchKernel")),
                      key=lambda s: s.begin)
    t.equal([None if re.match("kernel 0x[0-9a-f]+$", s.args["kernel"]) else s.args["kernel"]
             for s in launches], names, "names")
    t.equal(got.document["pytrace-bpf summary"]["kernels of unknown name"], names.count(None),
            "in the summary")
    print("%d launches" % len(launches))


NCCL_NAMES = {0: "ncclSuccess", 4: "ncclInvalidArgument", 7: "ncclInProgress"}


def nccl_double(t):
    libs, library = doubles(t.folder), t.path("nccl.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC",
                    os.path.join(process.PROGRAMS, "nccl_double.c"), "-o", library, libs[1],
                    "-Wl,-rpath,$ORIGIN"], check=True)
    return [*libs, library]


@each(mode=["auto", "all", "runtime"])
def test_nccl(t, mode):
    """Collectives and communicators, with counts, types, group and rank; the launches of NCCL are
    calls within."""
    target = process.Target(interpreters.one(), "nccl_calls", "6", env=process.environment(
        CUDA_LIBS=":".join(nccl_double(t))))
    tracer = process.Tracer("--cuda", mode, "-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    calls = target.done()["calls"]
    tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    got = trace.load(t.path("trace.json"))
    spans = cuda_spans(got, "nccl")
    t.equal(got.document["distributedInfo"], {"rank": 0, "rank from": "nothing: none is known"}
            if mode == "runtime" else {"rank": 5, "world_size": 8,
                                       "rank from": "the largest NCCL communicator"}, "its rank")
    t.equal(hta.rank_of(t.path("trace.json")), got.document["distributedInfo"]["rank"], "by HTA")
    launches = [s for s in cuda_spans(got) if s.name == "cudaLaunchKernel"]
    t.equal(len(launches), sum(c[2] for c in calls), "launches")
    if mode == "runtime":
        t.equal(spans, [], "calls of NCCL")
        return
    t.equal([s.name for s in spans], [c[0] for c in calls], "calls")
    for s, (name, code, count, shown) in zip(spans, calls):
        t.equal(s.parent.name, "call", name)
        t.equal(s.args["return"], NCCL_NAMES[code], name)
        t.equal({key: s.args.get(key) for key in shown}, shown, name)
        t.equal([c.name for c in s.children], ["cudaLaunchKernel"] * count, "within " + name)
    t.equal(len(failures(got)), sum(c[1] == 4 for c in calls), "failures")
    print("%d calls" % len(calls))


REAL_NCCL = """
import ctypes, sys
lib, out = ctypes.CDLL(sys.argv[1]), ctypes.c_int()
print("ready", flush=True)
sys.stdin.readline()
def call():
    first = lib.ncclGetVersion(ctypes.byref(out))
    return first, out.value, lib.ncclCommCount(None, ctypes.byref(out))
print(*call(), flush=True)
sys.stdin.readline()
"""


@limit(240)
def test_nccl_real(t):
    """The toolkit's libnccl, as far as it works without a GPU."""
    found = glob.glob("/usr/local/cuda*/lib64/libnccl.so.2")
    if not found:
        raise Skip("no libnccl in /usr/local/cuda*/lib64")
    target = subprocess.Popen(interpreters.one().command("-c", REAL_NCCL, found[0]),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.equal(target.stdout.readline(), "ready\n", "the target")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    say(target)
    first, version, second = (int(n) for n in target.stdout.readline().split())
    tracer.expect(0, stop=True)
    target.communicate("\n")
    spans = cuda_spans(trace.load(t.path("trace.json")), "nccl")
    t.equal([(s.name, s.args["return"]) for s in spans],
            [("ncclGetVersion", NCCL_NAMES[first]), ("ncclCommCount", NCCL_NAMES[second])], "calls")
    t.equal(spans[0].args["version"], version, "its version")


LIB_NAMES = {0: "_SUCCESS", 1: "_NOT_INITIALIZED", 7: "_INVALID_VALUE", 1001: "_NOT_INITIALIZED",
             2002: "_BAD_PARAM_NULL_POINTER"}


def record_libs(t, libs, *options, kind="double"):
    target = process.Target(interpreters.one(), "lib_calls", kind,
                            env=process.environment(CUDA_LIBS=":".join(libs)))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    calls = target.done()["calls"]
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return trace.load(t.path("trace.json")), calls, text


def check_libs(t, spans, calls):
    """Names, codes by name, arguments, in order."""
    t.equal([s.name for s in spans], [c[0] for c in calls], "calls")
    for s, (name, code, _, shown) in zip(spans, calls):
        kind = re.match("cublas|cudnn", name).group(0)
        t.equal((s.parent.name, s.category), ("call", kind), name)
        t.equal(s.args["return"], kind.upper() + "_STATUS" + LIB_NAMES[code], name)
        t.equal({key: s.args.get(key) for key in shown}, shown, name)


@each(mode=["auto", "all", "none", "cublas"])
def test_libs(t, mode):
    """cuBLAS and cuDNN, if they are asked for; the calls that they make of CUDA are within, and what
    they call of each other with --cuda all."""
    library = t.path("lib.so")
    libs = [*doubles(t.folder), library]
    subprocess.run(["cc", "-O1", "-shared", "-fPIC",
                    os.path.join(process.PROGRAMS, "lib_double.c"), "-o", library, libs[1],
                    "-Wl,-rpath,$ORIGIN"], check=True)
    options = ["--cuda-libs", "cublas" if mode == "cublas" else "cublas,cudnn"]
    got, calls, text = record_libs(t, libs, *options,
                                   *([] if mode == "cublas" else ["--cuda", mode]))
    spans = cuda_spans(got, "cublas", "cudnn")
    if mode == "cublas":
        t.equal({s.category for s in spans}, {"cublas"}, "categories")
        inner = [s for s in spans if s.args.get("k") == 1]
        t.equal([s.parent.name for s in inner], ["call"], "cuDNN's call of cuBLAS")
        check_libs(t, [s for s in spans if s not in inner],
                   [c for c in calls if c[0].startswith("cublas")])
        return
    outer = [s for s in spans if s.parent.is_call]
    check_libs(t, outer, calls)
    t.equal([(s.name, s.parent.name) for s in spans if s not in outer],
            [("cublasSgemm_v2", "cudnnConvolutionForward")] if mode == "all" else [], "nested")
    for s, (name, _, made, _) in zip(outer, calls):
        below = {"none": [], "auto": ["cudaLaunchKernel"] * made,
                 "all": ["cudaLaunchKernel", "cublasSgemm_v2"][:made]}[mode]
        t.equal([c.name for c in s.children], below, "within " + name)
    t.equal([e["args"]["function"] for e in failures(got)],
            ["cublasSgemm_v2", "cudnnSetTensor4dDescriptor"], "failures")
    t.check("--cuda" not in text, "it says:\n%s", text)


@limit(240)
def test_libs_real(t):
    """The toolkit's libraries, as far as they work without a GPU."""
    libs = [path for name in ("cublas.so.13", "cudnn.so.9")
            for path in glob.glob("/usr/local/cuda/lib64/lib" + name)]
    if len(libs) != 2:
        raise Skip("no libcublas.so.13 and libcudnn.so.9 in /usr/local/cuda/lib64")
    got, calls, _ = record_libs(t, libs, "--cuda-libs", "cublas,cudnn", kind="real")
    check_libs(t, cuda_spans(got, "cublas", "cudnn"), calls)


def test_root(t):
    """In a container's root, where the path means another file outside."""
    rooted = [i for i in interpreters.every() if i.root]
    if not rooted:
        raise Skip("no Debian root with a Python")
    interp = rooted[0]
    folder = process.install_programs(interp)
    for lib in doubles(t.folder):
        shutil.copy(lib, interp.root + folder)
    libs = [os.path.join(folder, name) for name in ("driver.so", "runtime.so")]
    got, calls, _ = record(t, interp, libs)
    compare(t, got, calls, cuda_spans(got))


def test_capture(t):
    """By way of a raw capture the trace is the same."""
    interp = interpreters.one()
    target = process.Target(interp, "cudart_calls", "5", env=process.environment(
        CUDA_LIBS=":".join(doubles(t.folder))))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("raw.ptcap"))
    tracer.recording()
    target.go()
    calls = target.done()["calls"]
    tracer.expect(0, stop=True)
    target.finish()
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"))
    got = trace.load(t.path("trace.json"))
    compare(t, got, calls, cuda_spans(got))


def test_paused(t):
    """While recording is paused and resumed: what is shown was called, in that order, and what has
    no end says why."""
    interp = interpreters.one()
    target = process.Target(interp, "cudart_calls", "1500", env=process.environment(
        CUDA_LIBS=":".join(doubles(t.folder))))
    tracer = process.Tracer("--cuda", "all", "-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    for _ in range(8):
        os.kill(tracer.pid, signal.SIGUSR1)
        time.sleep(0.05)
    calls = target.done()["calls"]
    tracer.expect(0, stop=True)
    target.finish()
    got = trace.load(t.path("trace.json"))
    spans = cuda_spans(got)
    t.check(spans, "nothing was recorded")
    t.equal(got.document["pytrace-bpf summary"]["stack jumps"], 0, "stack jumps")
    for s in spans:
        t.check("return" in s.args or {"end paused", "open at end"} & set(s.args),
                "%s has no end: %s", s.name, s.args)
    for tid in {s.event["tid"] for s in spans}:
        own = iter([c[2] for c in calls if c[0] == tid])
        for s in spans:
            if s.event["tid"] == tid and s.category == "cuda_runtime":
                t.check(s.name in own, "%s was not called then", s.name)
    print("%d of %d calls" % (sum(s.category == "cuda_runtime" for s in spans), len(calls)))


def nvcc_library(t, stripped):
    """A shared library that nvcc has linked the runtime into, as it does if nobody says otherwise."""
    nvcc = next(iter(glob.glob("/usr/local/cuda*/bin/nvcc")), None)
    if not nvcc or not have("cc"):
        raise Skip("no nvcc in /usr/local/cuda*/bin")
    source, library = t.path("kernel.cu"), t.path("kernel.so")
    with open(source, "w") as file:
        file.write("__global__ void add(int *x) { *x += 1; }\n"
                   "extern \"C\" int go(int n) { for (int i = 0; i < n; i++) "
                   "add<<<dim3(1, 2, 3), 32, 16>>>(0); return (int)cudaGetLastError(); }\n")
    subprocess.run([nvcc, "-shared", "-Xcompiler", "-fPIC", "-o", library, source], check=True)
    if stripped:
        subprocess.run(["strip", library], check=True)
    return library


STATIC = """
import ctypes, sys
LIBS = []
def load():
    LIBS.append(ctypes.CDLL(sys.argv[1]))
if not sys.argv[2]:
    load()
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2]:
    load()
    print("loaded", flush=True)
    sys.stdin.readline()
def call():
    return LIBS[0].go(7)
print(call(), flush=True)
sys.stdin.readline()
"""


def say(target):
    target.stdin.write("\n")
    target.stdin.flush()


@each(how=["", "stripped", "stripped, loaded later"])
def test_static(t, how):
    """A runtime inside of a library: found by its symbols, or by what its code says."""
    library = nvcc_library(t, stripped=how)
    late = "later" in how
    target = subprocess.Popen(
        interpreters.one().command("-c", STATIC, library, "late" if late else ""),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.equal(target.stdout.readline(), "ready\n", "the target")
    tracer = process.Tracer("-v", "-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    say(target)
    if late:
        t.equal(target.stdout.readline(), "loaded\n", "the target")
        tracer.err.wait("attached to the CUDA functions of '%s'" % library, "the probes")
        say(target)
    code = int(target.stdout.readline())
    tracer.expect(0, stop=True)
    target.communicate("\n")
    got = trace.load(t.path("trace.json"))
    spans = cuda_spans(got)
    launches = [s for s in spans if s.name == "cudaLaunchKernel"]
    t.equal(len(launches), 7, "launches")
    t.equal({s.parent.name for s in spans}, {"call"}, "Python functions")
    t.equal(spans[-1].name, "cudaGetLastError", "the last call")
    t.equal({s.args["kernel"] for s in launches}, {"add(int*)"}, "kernels")
    t.equal({(s.args["gridDim"], s.args["blockDim"], s.args["sharedMem (bytes)"])
             for s in launches}, {("1,2,3", "32,1,1", 16)}, "arguments")
    t.equal([e["args"]["detail"] for e in got.events if e["ph"] == "i" and e["cat"] == "cuda"],
            [library] if late else [], "libraries that came late")
    if code == 35:
        t.equal({s.args["return"] for s in spans}, {"cudaErrorInsufficientDriver"}, "codes")


INSIDE = """
import ctypes, json, os, sys
ctypes.CDLL(sys.argv[1])
real = os.path.realpath(sys.argv[1])
bias = min(int(l.split("-")[0], 16) for l in open("/proc/self/maps") if l.rstrip().endswith(real))
out = ctypes.c_void_p()
def call(at):
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(bias + int(at, 16))(ctypes.byref(out))
print("ready", flush=True)
print(json.dumps([[n, call(at), out.value] for n, at in json.loads(sys.stdin.readline()).items()]),
      flush=True)
sys.stdin.readline()
"""


@limit(240)
@each(name=["curand", "cusparse"])
def test_inside(t, name):
    """The runtime inside of NVIDIA's libraries, which are stripped: functions where they are said to
    be do what they should, and their calls are in the trace."""
    found = glob.glob("/usr/local/cuda*/lib64/lib%s.so.1*" % name)
    if not found:
        raise Skip("no lib%s in /usr/local/cuda*/lib64" % name)
    out, _ = process.run_tool("kernels", "--json", found[0])
    where = json.loads(out)["runtime"]
    names = ["cudaGetDeviceCount", "cudaRuntimeGetVersion", "cudaDriverGetVersion", "cudaGetDevice"]
    target = subprocess.Popen(interpreters.one().command("-c", INSIDE, found[0]),
                              env=dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(found[0])),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.equal(target.stdout.readline(), "ready\n", "the target")
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    tracer.recording()
    target.stdin.write(json.dumps({n: where[n] for n in names}) + "\n")
    target.stdin.flush()
    said = json.loads(target.stdout.readline())
    tracer.expect(0, stop=True)
    target.communicate("\n")
    spans = cuda_spans(trace.load(t.path("trace.json")))
    t.equal([s.name for s in spans], names, "calls")
    for (name, code, _), s in zip(said, spans):
        t.equal(s.args["return"], {**NAMES, **NO_DRIVER}[code], name)
    version = dict((n, (code, value)) for n, code, value in said)["cudaRuntimeGetVersion"]
    t.equal((version[0], version[1] // 1000 in (12, 13)), (0, True), "its version: %s" % version[1])
    t.equal(spans[1].args["runtimeVersion"], version[1], "the version in the trace")


def test_without(t):
    """A process without CUDA: the trace is made, and told is only who asked."""
    interp = interpreters.one()
    for options, told in ((["--cuda", "runtime"], True), ([], False)):
        _, err = process.run_tool("-o", t.path("trace.json"), *options, "--",
                                  *interp.command("-c", "def f(): pass\nf()"))
        t.check(("nothing to record" in err) == told, "with %s it says:\n%s", options, err)
        t.equal(len(trace.load(t.path("trace.json")).named("f")), 1, "calls of f")


@each(lacks=["cookie", "uprobe-multi"])
def test_older_kernel(t, lacks):
    """What it needs is not there: that is said, and the rest goes on."""
    got, _, text = record(t, interpreters.one(), doubles(t.folder), "--no-" + lacks, "--cuda", "all")
    t.has(text, "--cuda: not recorded")
    t.equal(cuda_spans(got), [], "calls")
    t.check(got.named("round_of"), "no Python calls")
