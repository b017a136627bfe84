# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--stacks: where CUDA functions are called from. Of each call the Python frames with their lines are
those that the program saw itself, the native ones those that the C library's unwinder found, in the
same order: where that has a run of the interpreter's loop, the trace has the Python frames."""
import functools
import os
import re
import shutil
import subprocess

from harness import interpreters, process, trace
from harness.runner import Skip, each

EVAL = "_PyEval_EvalFrameDefault"
GAPS = ("[native frames that are not known]", "[Python frames that are not known]")


def libraries(folder, *flags):
    """[the double of libcudart, the library that calls it]"""
    driver, runtime, calls = (os.path.join(folder, name)
                              for name in ("driver.so", "runtime.so", "calls.so"))
    version = os.path.join(folder, "version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    here = "-Wl,-rpath,$ORIGIN"
    double = ["cc", "-O1", "-shared", "-fPIC", os.path.join(process.PROGRAMS, "cuda_double.c")]
    subprocess.run([*double, "-Wl,-soname,driver.so", "-o", driver], check=True)
    subprocess.run([*double, "-DRUNTIME", "-Wl,-soname,runtime.so", "-Wl,--version-script=" + version,
                    "-o", runtime, driver, here], check=True)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-fomit-frame-pointer", *flags,
                    os.path.join(process.PROGRAMS, "stack_calls.c"), "-o", calls, runtime, here],
                   check=True)
    return [driver, runtime, calls]


def record(t, interp, calls, *options, out="trace.json", kinds=(), count="2"):
    target = process.Target(interp, "stack_calls", count, *kinds,
                            env=process.environment(STACK_LIB=calls))
    tracer = process.Tracer("-p", target.pid, "-o", t.path(out), *options)
    tracer.recording()
    target.go()
    result = target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return result["calls"], text


def stack_of(got, event):
    """[category, name] of each frame, innermost first."""
    frames, found, at = got.document["stackFrames"], [], str(event["sf"])
    while at:
        found.append((frames[at]["category"], frames[at]["name"]))
        at = frames[at].get("parent")
    return found


def spans(got, name="cudaMalloc"):
    return [s for s in got.spans if s.name == name]


# ---- what the program says ----

@functools.lru_cache(maxsize=None)
def symbols(path):
    """(whether its addresses are those in memory, [(start, end, name)])"""
    head = subprocess.run(["readelf", "-hW", path], stdout=subprocess.PIPE, check=True, text=True)
    text = subprocess.run(["readelf", "-sW", path], stdout=subprocess.PIPE, check=True, text=True)
    found = []
    for line in text.stdout.splitlines():
        f = line.split()
        if len(f) >= 8 and f[3] in ("FUNC", "IFUNC") and f[6] != "UND" and int(f[2], 0):
            start = int(f[1], 16)
            found.append((start, start + int(f[2], 0), f[7].split("@")[0]))
    return re.search(r"Type:\s+EXEC", head.stdout) is not None, found


def native_name(root, path, offset, address):
    """(names that the function may have, file, address in the file)"""
    fixed, known = symbols(root + path)
    vaddr = (address if fixed else offset) - 1
    return {name for start, end, name in known if start <= vaddr < end}, path, vaddr


def check_native(t, interp, got, addresses, what):
    """got: the stack's frames, Python frames that follow each other as one."""
    # the first are backtrace()'s caller, whose next call this is, and before 2.34 itself
    expected = [native_name(interp.root or "", *a) for a in addresses]
    t.equal(len(got), len(expected), "%s: frames of\n%s\nand of\n%s" % (
        what, "\n".join(map(str, got)), "\n".join(map(str, expected))))
    for i, (mine, (names, path, vaddr)) in enumerate(zip(got, expected)):
        file = os.path.basename(path)
        if mine == "python":
            t.check(any(n.split(".")[0] == EVAL for n in names) or not names,
                    "%s: frame %d is %s", what, i, names)
        elif names:
            t.check(mine in {"%s (%s)" % (demangled(n), file) for n in names},
                    "%s: frame %d is %s, not of %s in %s", what, i, mine, names, file)
        elif i:
            t.equal(mine, "%s+0x%x" % (file, vaddr), "%s: frame %d" % (what, i))
        else:
            t.check(mine.startswith(file + "+0x"), "%s: frame 0 is %s", what, mine)


def demangled(name):
    return {"_ZN4deep5outerEm": "deep::outer(unsigned long)"}.get(name, name)


def as_one(interp, frames):
    """From 3.11 on a run of the loop evaluates several Python frames."""
    found = []
    for category, name in frames:
        if category != "python":
            found.append(name)
        elif interp.minor < (3, 11) or not found or found[-1] != "python":
            found.append("python")
    return found


def check_call(t, interp, got, span, call):
    tid, kind, stack, addresses = call
    t.equal(span.event["tid"], tid, kind + ": thread")
    frames = [frame for frame in stack_of(got, span.event) if frame[0] != "inductor"]
    t.equal([name for category, name in frames if category == "python"],
            ["%s(%d): %s" % (file, line, name) for file, name, line in stack], kind + ": Python frames")
    t.equal(span.args["called at"], "%s(%d): %s" % (stack[0][0], stack[0][2], stack[0][1]), kind)
    t.check(not any(name in GAPS for _, name in frames), "%s: %s", kind, frames)
    if addresses:
        check_native(t, interp, as_one(interp, frames), addresses, kind)
    t.equal(frames[2:4], [("native", "deep::outer(unsigned long) (calls.so)"),
                          ("native", "stack_call (calls.so)")], kind + ": exported functions")
    t.equal(frames[-1][0], "native", kind + ": the outermost")


def by_thread(spans_or_calls, key):
    found = {}
    for one in spans_or_calls:
        found.setdefault(key(one), []).append(one)
    return found


def check_all(t, interp, got, calls):
    mine = by_thread(spans(got), lambda s: s.event["tid"])
    own = by_thread(calls, lambda c: c[0])
    t.equal({k: len(v) for k, v in mine.items()}, {k: len(v) for k, v in own.items()}, "calls")
    for tid, of_thread in own.items():
        for span, call in zip(mine[tid], of_thread):
            check_call(t, interp, got, span, call)
    t.equal(len({s.args["stack"] for s in spans(got)}),
            len({str(stack_of(got, s.event)) for s in spans(got)}), "different stacks")


def check_generated(t, got):
    """The first of the two launches has a comment above it."""
    found = [stack_of(got, s.event) for s in spans(got) if s.parent.name == "Kernels.mm"]
    t.equal([[frames[i - 1][1].split("/")[-1] for i, (category, _) in enumerate(frames)
              if category == "inductor"] for frames in found],
            [["casqpe6odbcjnjxjpxitl3lddb3xvnfpxofl3psy5vjwhdpr3rnm.py(5): call"], []],
            "frames whose origin is told")
    t.equal([name for category, name in found[0] if category == "inductor"],
            ["[source nodes c, d; aten.mm]"], "origins")


def wanted():
    return [interpreters.one(minor) for minor in interpreters.WANTED_MINORS
            if any(i.minor == tuple(map(int, minor.split("."))) and not i.root
                   for i in interpreters.every())] + [interpreters.system()]


@each(interp=lambda: list(dict.fromkeys(wanted())))
def test_frames(t, interp):
    """Each frame of each call, in CPythons with and without symbols."""
    libs = libraries(t.folder)
    calls, text = record(t, interp, libs[2], "--stacks", "cuda")
    got = trace.load(t.path("trace.json"))
    check_all(t, interp, got, calls)
    t.check("stack" not in text.replace("--stacks", ""), "it says:\n%s", text)


def test_stripped(t):
    """A library without symbols, but for those that it exports: the others are places in it."""
    interp = interpreters.one()
    libs = libraries(t.folder, "-s")
    calls, _ = record(t, interp, libs[2], "--stacks", "malloc", kinds=(t.folder,))
    got = trace.load(t.path("trace.json"))
    check_all(t, interp, got, calls)
    check_generated(t, got)
    names = [name for _, name in stack_of(got, spans(got)[0].event)]
    t.check(names[0].startswith("calls.so+0x") and names[1].startswith("calls.so+0x"),
            "static functions: %s", names[:2])
    t.equal(names[2:4], ["deep::outer(unsigned long) (calls.so)", "stack_call (calls.so)"],
            "those that are exported")


def test_capture(t):
    """By way of a raw capture, replayed when the process and its files are gone."""
    interp = interpreters.one("3.11")
    libs = libraries(t.folder)
    calls, _ = record(t, interp, libs[2], "--stacks", "cuda", out="raw.ptcap")
    kept = [os.path.join(t.folder, "kept-" + os.path.basename(path)) for path in libs]
    for path, to in zip(libs, kept):
        os.rename(path, to)
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("trace.json"))
    for path, to in zip(libs, kept):
        os.rename(to, path)
    check_all(t, interp, trace.load(t.path("trace.json")), calls)


def test_groups(t):
    """Calls that were not asked for have no stacks."""
    libs = libraries(t.folder)
    record(t, interpreters.one(), libs[2], "--stacks", "launch,memcpy", "--stacks", "sync")
    got = trace.load(t.path("trace.json"))
    every = [s for s in got.spans if s.category == "cuda_runtime"]
    t.equal({s.name for s in every}, {"cudaMalloc", "cudaFree"}, "calls")
    t.check(not any("sf" in s.event or "stack" in s.args for s in every), "there are stacks")
    t.check("stackFrames" not in got.document, "there are frames")


@each(minor=["3.10", "3.12"])
def test_deep(t, minor):
    """A recursion that is deeper than what is recorded of it: what is there is right, and that there is
    more is told. Up to 3.10 the native frames are too many, too."""
    interp = interpreters.one(minor)
    libs = libraries(t.folder)
    calls, _ = record(t, interp, libs[2], "--stacks", "cuda", kinds=("deep",))
    got = trace.load(t.path("trace.json"))
    call = next(c for c in calls if c[1] == "deep")
    span = next(s for s in spans(got) if s.parent.name == "deep")
    frames = stack_of(got, span.event)
    python = [name for category, name in frames if category == "python"]
    t.check(len(python) >= 128 and len(python) < len(call[2]), "%d Python frames", len(python))
    t.equal(python, ["%s(%d): %s" % (file, line, name)
                     for file, name, line in call[2][:len(python)]], "Python frames")
    t.equal(frames[-1], ("unknown", GAPS[1]), "the end")
    t.equal([name for category, name in frames if category == "unknown"], list(GAPS),
            "what is missing")


def test_root(t):
    """In another root, where paths mean other files outside; a CPython that is stripped."""
    rooted = [i for i in interpreters.every() if i.root and i.minor >= (3, 13)]
    if not rooted:
        raise Skip("no Debian root with a Python 3.13 or later")
    interp = next((i for i in rooted if i.minor == (3, 14)), rooted[0])
    folder = process.install_programs(interp)
    for lib in libraries(t.folder):
        shutil.copy(lib, interp.root + folder)
    calls, _ = record(t, interp, os.path.join(folder, "calls.so"), "--stacks", "cuda",
                      kinds=(folder + "/cache",))
    got = trace.load(t.path("trace.json"))
    check_all(t, interp, got, calls)
    check_generated(t, got)


@each(options=[["--cuda", "none"], []])
def test_wrong(t, options):
    """What cannot be meant is refused."""
    interp = interpreters.one()
    groups = "cuda" if options else "cuda,nonsense"
    _, err = process.run_tool("--stacks", groups, *options, "-o", t.path("trace.json"), "--",
                              *interp.command("-c", "pass"), code=2)
    t.has(err, "--stacks")
