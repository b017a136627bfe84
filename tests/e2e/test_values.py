# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""--args, --retval, --local: the values of calls. The witness is sys.setprofile in a second run."""
import json
import re
import subprocess

from harness import compare, interpreters, process, trace
from harness.runner import Skip, each

LOCALS = "variables:number,variables:text,variables:cell,variables:missing,early:late"
EVERYTHING = ["--args", "*", "--retval", "*", "--local", LOCALS]
SKIPPED = {"workload", "run_watched", "show", "show_text"}


def record(t, interp, *options, program="values", args=(), out="trace.json"):
    target = process.Target(interp, program, *args)
    tracer = process.Tracer("-p", target.pid, "-o", t.path(out), *options)
    tracer.recording()
    target.go()
    result = target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return target.pid, result, text


def truth(interp):
    target = process.Target(interp, "values", "watch")
    target.go()
    seen = target.done()["seen"]
    target.finish()
    return seen


def plain(value):
    """Addresses differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+>$", ">", value) if value is not None else None


def values_of(s):
    return [s.name, {k: plain(v) for k, v in s.args.get("func_args", {}).items()},
            {k: plain(v) for k, v in s.args.get("locals", {}).items()},
            plain(s.args.get("return_value"))]


def calls_of(got, pid):
    """By thread, the main one first: the calls of the program's functions, in order."""
    threads = []
    for (_, tid), roots in sorted(got.of_pid(pid).items(), key=lambda item: item[0][1] != pid):
        calls = sorted((s for root in roots for s in root.walk()
                        if s.file.endswith("/programs/values.py") or "pytrace-e2e" in s.file),
                       key=lambda s: s.begin)
        calls = [s for s in calls if s.file.endswith("/values.py") and s.name not in SKIPPED]
        if calls:
            threads.append(calls)
    return threads


def same(t, interp, got, pid):
    seen = truth(interp)
    threads = calls_of(got, pid)
    t.equal(len(threads), 2, "threads")
    unknown = 0
    for calls, name in zip(threads, ("MainThread", "other")):
        expected = [[c[0], {k: plain(v) for k, v in c[1].items()},
                     {k: plain(v) for k, v in c[2].items()}, plain(c[3])] for c in seen[name]]
        for i, (s, want) in enumerate(zip(calls, expected)):
            found = values_of(s)
            if found[3] == "<unknown>":
                unknown += 1
                t.check(interp.minor <= (3, 10) and s.name in ("delegate", "coroutine", "gather"),
                        "what %s returns is not known", s.name)
                found[3] = want[3]
            t.equal(found, want, "call %d" % i)
        t.equal(len(calls), len(expected), "calls of %s" % name)
    return sum(map(len, threads)), unknown


@each(interp=interpreters.every)
def test_values(t, interp):
    """Arguments, results and variables of every call of a program."""
    pid, _, _ = record(t, interp, *EVERYTHING)
    print("%d calls, %d results not known" % same(t, interp, trace.load(t.path("trace.json")), pid))


@each(minor=["3.9", "3.11", "3.13", "3.15"])
def test_fallback(t, minor):
    """The same without what newer kernels have."""
    interp = interpreters.one(minor)
    pid, _, _ = record(t, interp, *EVERYTHING, "--no-uprobe-multi", "--no-cookie",
                       "--no-task-storage")
    same(t, interp, trace.load(t.path("trace.json")), pid)


@each(minor=["3.8", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"])
@each(program=["callforms", "aio"])
def test_exact(t, minor, program):
    """The calls are those that there are without, of every kind."""
    interp = interpreters.one(minor)
    pid, _, _ = record(t, interp, *EVERYTHING, "--lines", program=program)
    oracle = compare.Oracle(process.run_oracle(interp, program, folder=t.folder))
    events, threads = compare.compare(oracle, trace.load(t.path("trace.json")), pid)
    print("%d enters and exits, %d threads" % (events, threads))


@each(minor=["3.8", "3.12", "3.14"])
def test_chosen(t, minor):
    """Only what was asked for; other calls have nothing."""
    interp = interpreters.one(minor)
    pid, _, _ = record(t, interp, "--args", "same,no_such_*", "--retval", "many", "--lines",
                       "--min-duration", "1us")
    got = trace.load(t.path("trace.json"))
    for s in got.slices():
        t.equal("func_args" in s.args, s.name == "same", "arguments of %s" % s.name)
        t.equal("return_value" in s.args, s.name == "many", "result of %s" % s.name)
        t.check("locals" not in s.args, "variables of %s", s.name)
    t.check(got.named("same") and got.named("many"), "no calls")
    pid, _, _ = record(t, interp)
    for s in trace.load(t.path("trace.json")).slices():
        t.check(not {"func_args", "return_value", "locals"} & set(s.args), "values: %s", s.args)


@each(minor=["3.10", "3.12"])
def test_by_way_of_a_capture(t, minor):
    """Values are in the capture; VizTracer's dialect has the same names for them."""
    interp = interpreters.one(minor)
    pid, _, _ = record(t, interp, *EVERYTHING, out="trace.ptcap")
    process.run_tool("replay", t.path("trace.ptcap"), "-o", t.path("trace.json"))
    same(t, interp, trace.load(t.path("trace.json")), pid)
    process.run_tool("replay", t.path("trace.ptcap"), "-o", t.path("viz.json"), "--dialect",
                     "viztracer", "--no-call-ids")
    with open(t.path("viz.json")) as file:
        events = json.load(file)["traceEvents"]
    found = [e["args"] for e in events if e["name"].startswith("positional (")]
    t.equal(found[:2], [{"func_args": {"a": "1", "b": "5", "rest": "<tuple of length 0>"},
                         "return_value": "5"},
                        {"func_args": {"a": "'a'", "b": "'b'", "rest": "<tuple of length 2>"},
                         "return_value": "'b'"}], "calls of positional()")
    process.run_tool("report", t.path("trace.json"))


NUMPY = """
import numpy
class Own(numpy.ndarray):
    pass
def take(a, b, c, d, e):
    return a
take(numpy.zeros((2, 3)), numpy.arange(4, dtype="int16"), numpy.float64(1.5),
     numpy.array(True), numpy.zeros((1,) * 9, "complex64"))
take(numpy.zeros(3).view(Own), numpy.array(["ab"]), None, numpy.zeros(1, "i4,f8"), numpy)
"""


def with_numpy():
    return [i for i in interpreters.every() if i.root and
            subprocess.run(i.command("-c", "import numpy"), stderr=subprocess.DEVNULL,
                           stdin=subprocess.DEVNULL).returncode == 0]


def test_numpy(t):
    """Where numpy is at hand, in a root: type and lengths of arrays."""
    found = with_numpy()
    if not found:
        raise Skip("no interpreter has numpy")
    for interp in found:
        process.run_tool("-o", t.path("trace.json"), "--args", "take", "--", *interp.command(
            "-c", NUMPY))
        calls = sorted(trace.load(t.path("trace.json")).named("take"), key=lambda s: s.begin)
        first, second = [s.args["func_args"] for s in calls]
        t.equal([first[k] for k in "abd"],
                ["<numpy.ndarray float64 (2, 3)>", "<numpy.ndarray int16 (4,)>",
                 "<numpy.ndarray %s ()>" % ("bool" if "bool_" not in first["d"] else "bool_")],
                "arrays")
        t.equal(first["e"], "<numpy.ndarray complex64 (1, 1, 1, 1, 1, 1, 1, 1, \u2026)>", "nine")
        t.check(first["c"].startswith("<numpy.float64 at 0x"), "a scalar: %s", first["c"])
        t.check(second["a"].startswith("<Own at 0x"), "a subclass: %s", second["a"])
        t.check(second["b"].startswith("<numpy.ndarray str"), "of str: %s", second["b"])
        t.check(second["d"].startswith("<numpy.ndarray void"), "of records: %s", second["d"])
        print(interp, first["d"])


HOSTILE = """
import ctypes
def take(a, b, c, d, e):
    return a
def fake(type_at, *words):
    memory = (ctypes.c_ulong * 16)(1 << 30, type_at, *words)
    KEEP.append(memory)
    return ctypes.cast(ctypes.addressof(memory), ctypes.py_object).value
KEEP = []
of = lambda t, *words: fake(id(t), *words)
huge = 2**63 - 1
take(fake(0xdead0000), fake(8), of(list, huge), of(bytes, huge), of(str, huge))
take(of(int, huge), of(dict, 2**64 - 5), of(str, huge, 0, 0xe5), of(tuple, 0), of(float, 0))
"""


@each(minor=["3.9", "3.11", "3.12", "3.14"])
def test_hostile(t, minor):
    """Objects that are none: nothing is made up, and nothing harms."""
    interp = interpreters.one(minor)
    # a fake object is never freed: it has many references
    process.run_tool("-o", t.path("trace.json"), "--args", "take", "--retval", "take", "--",
                     *interp.command("-c", HOSTILE))
    calls = sorted(trace.load(t.path("trace.json")).named("take"), key=lambda s: s.begin)
    first, second = [s.args["func_args"] for s in calls]
    t.equal([first[k] for k in "ab"], ["<unreadable>"] * 2, "without a type")
    t.equal(calls[0].args["return_value"], "<unreadable>", "result")
    t.equal(first["c"], "<list of length %d>" % (2**63 - 1), "a list")
    t.check(len(first["d"]) < 1200 and first["d"].endswith(("\u2026", ">")), "bytes: %s", first["d"])
    t.check(first["e"] == "<unreadable>" or len(first["e"]) < 1200, "str: %s", first["e"])
    t.equal(second["b"], "<dict of length -5>", "a dict")
    t.check(second["a"].startswith("<int of more than"), "int: %s", second["a"])
    t.equal([second[k] for k in "de"], ["<tuple of length 0>", "0.0"], "small")


def test_names_that_nothing_has(t):
    """A misspelt one is told, each; one that was met is not."""
    interp = interpreters.one("3.9")
    out, err = process.run_tool(
        "-o", t.path("trace.json"), "--args", "taek,take", "--local", "t?ke:a,give:a", "--audit",
        "app.*,opne", "--stop-on", "stpo", "--", *interp.command(
            "-c", "import sys\ndef take(a): return a\ntake(1)\nsys.audit('app.mark')"))
    told = re.findall(r"warning: (--\S+): no (\w+) that was \w+ matched '(.*)'", out + err)
    t.equal(sorted(told), [("--args", "function", "taek"), ("--audit", "event", "opne"),
                           ("--local", "function", "give"), ("--stop-on", "function", "stpo")],
            "what is told")


def test_bad_input(t):
    for options, words in (
            (["--args", "["], "is no glob"),
            (["--args", "a,,b"], "not a valid"),
            (["--retval", "x" * 65], "at most 64"),
            (["--local", "f"], "GLOB:NAME"),
            (["--local", "f:1a"], "GLOB:NAME"),
            (["--local", ":a"], "GLOB:NAME"),
            (["--local", "f:" + "a" * 32], "at most 31"),
            (["--args", ",".join("abcdefghijklmnopq")], "more than 16")):
        _, err = process.run_tool("-p", "1", *options, code=2)
        t.check(words in err, "%s: %s", options, err)
