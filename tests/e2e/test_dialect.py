# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""VizTracer's dialect, sources in the trace, names, and one file a process."""
import json
import os
import re

from harness import compare, interpreters, process, trace
from harness.runner import each

VIZ_NAME = re.compile(r"(.*) \((.*?):([0-9]+)\)", re.DOTALL)  # as VizTracer's functree.py reads it


def record(t, interp, program, *options, args=()):
    target = process.Target(interp, program, *args)
    tracer = process.Tracer("-p", target.pid, *options)
    tracer.recording()
    target.go()
    target.done()
    text = tracer.expect(0, stop=True)
    t.equal(target.finish(), 0, "exit status of the target")
    return target.pid, text


def as_pytorch(document):
    """The same trace in the other dialect, so that the strict reader can check it."""
    document["schemaVersion"] = 1
    document["baseTimeNanoseconds"] = document["viztracer_metadata"]["baseTimeNanoseconds"]
    for event in document["traceEvents"]:
        if event["ph"] == "X":
            name, file, line = VIZ_NAME.fullmatch(event["name"]).groups()
            event["name"] = "%s(%s): %s" % (file, line, name)
            event["cat"] = {"FEE": "python_function"}[event["cat"]]
    return document


@each(minor=["3.8", "3.12", "3.14"])
def test_viztracer(t, minor):
    """The dialect holds the same calls; each function of a file has its source, line by line."""
    interp = interpreters.one(minor)
    path = t.path("trace.json")
    pid, _ = record(t, interp, "callforms", "-o", path, "--dialect", "viztracer", "--file-info",
                    "--no-imports")
    with open(path, encoding="utf-8") as file:
        document = json.load(file, parse_float=trace._number)
    t.equal(document["viztracer_metadata"]["overflow"], False, "overflow")
    names = {e["name"] for e in document["traceEvents"] if e["ph"] == "X"}
    files, functions = document["file_info"]["files"], document["file_info"]["functions"]
    t.check(set(functions) <= names, "functions that are no slices: %s", set(functions) - names)
    for name, (file, line) in functions.items():
        t.equal((file, str(line)), VIZ_NAME.fullmatch(name).groups()[1:], name)
        text, count = files[file]
        t.equal(text.count("\n"), count, "lines of " + file)
        short = VIZ_NAME.fullmatch(name)[1].rpartition(".")[2]
        # a decorated function's line is its first decorator's, up to the def
        if short.isidentifier():
            t.check(any(short in x for x in text.split("\n")[line - 1:line + 4]),
                    "%s is not at its line", name)
    program = [f for f in files if f.endswith("/callforms.py")]
    t.equal(len(program), 1, "sources of callforms.py")
    with open(process.PROGRAMS + "/callforms.py", encoding="utf-8") as file:
        t.equal(files[program[0]][0], file.read(), "its source")
    with_source = {n for n in names if VIZ_NAME.fullmatch(n)[2].startswith("/")}
    t.equal(set(functions), with_source, "functions with a source")
    got = trace.Trace(as_pytorch(document))
    oracle = compare.Oracle(process.run_oracle(interp, "callforms", folder=t.folder))
    print("%d enters and exits, %d threads" % compare.compare(oracle, got, pid))


def test_viztracer_report(t):
    """report reads this dialect too, sources and all."""
    interp = interpreters.one()
    for dialect in ("viztracer", "pytorch"):
        record(t, interp, "callforms", "-o", t.path(dialect + ".json.gz"), "--dialect", dialect,
               "--file-info")
    tables = []
    for dialect in ("viztracer", "pytorch"):
        out, _ = process.run_tool("report", t.path(dialect + ".json.gz"), "--json", "--top", "1000")
        tables.append(sorted((r["file"], r["line"], r["name"], r["calls"])
                             for r in json.loads(out)["by_self"]))
    t.check(len(tables[0]) > 50, "only %d functions", len(tables[0]))
    t.equal(tables[0], tables[1], "functions and calls")


def test_not_readable(t):
    """A source that the process itself may not read is not in the trace, whoever traces it."""
    interp = interpreters.one()
    os.chmod(t.folder, 0o755)
    secret = t.path("secret.py")
    with open(secret, "w") as file:
        file.write("# the secret\n")
    os.chmod(secret, 0o600)
    script = t.path("claims.py")
    with open(script, "w") as file:
        file.write("import sys\nsys.dont_write_bytecode = True\n"
                   "exec(compile('def f(): pass\\nf()\\n', %r, 'exec'))\n"
                   "exec(compile('def g(): pass\\ng()\\n', '/proc/self/environ', 'exec'))\n"
                   "exec(compile('def h(): pass\\nh()\\n', '/dev/zero', 'exec'))\n" % secret)
    python = process.shutil.copy2("/usr/bin/python3", t.path("python3"))  # anybody may run it
    _, err = process.run_tool("-v", "-o", t.path("trace.json"), "--file-info", "--", "setpriv",
                              "--reuid=65534", "--regid=65534", "--clear-groups", python, script)
    got = trace.load(t.path("trace.json"))
    for name in "fgh":
        t.equal(len(got.named(name)), 1, "slices of %s()" % name)
    files = got.document["file_info"]["files"]
    t.check(script in files, "the script's own source is missing: %s", list(files))
    t.equal([f for f in files if f in (secret, "/proc/self/environ", "/dev/zero")], [],
            "sources that must not be there")
    t.has(err, "no source of '%s': Permission denied" % secret,
          "no source of '/proc/self/environ'", "no source of '/dev/zero'")


def test_names(t):
    interp = interpreters.one()
    pid, _ = record(t, interp, "churn", "-o", t.path("trace.json"), "--process-name", "my app",
                    "--ignore-frozen", args=("5",))
    got = trace.load(t.path("trace.json"))
    t.equal(got.processes, {pid: "my app"}, "processes")
    t.equal([s.file for s in got.slices() if s.file.startswith("<frozen")], [], "frozen functions")
    t.equal(got.counts()["run_text"], 5, "slices of run_text()")


@each(how=["%p", "suffix", "replay"])
def test_one_file_a_process(t, how):
    """Together the files hold what one file would, each of one process alone."""
    interp = interpreters.one()
    command = process.script(interp, "forks.py", "tree")
    out = {"%p": "out-%p.json", "suffix": "out.json", "replay": "all.ptcap"}[how]
    options = ["--pid-suffix"] if how == "suffix" else []
    process.run_tool("--follow=exact", "-o", t.path(out), *options, "--", *command)
    if how == "replay":
        process.run_tool("replay", t.path(out), "-o", t.path("out-%p.json"))
        process.run_tool("replay", t.path(out), "-o", t.path("whole.json"))
    files = [f for f in os.listdir(t.folder) if re.fullmatch(r"out[-_]\d+\.json", f)]
    t.check(len(files) >= 4, "files: %s", os.listdir(t.folder))
    slices = 0
    for name in files:
        got = trace.load(t.path(name))
        t.equal(list(got.processes), [int(re.search(r"\d+", name)[0])], "processes in " + name)
        slices += got.count
    if how == "replay":
        t.equal(slices, trace.load(t.path("whole.json")).count, "slices of all files")


def test_refused(t):
    """What a capture cannot hold is said; what cannot be one file a process is refused before
    anything is attached."""
    target = process.Target(interpreters.one(), "churn", "3")
    _, err = process.run_tool("-p", target.pid, "-d", "100ms", "-o", t.path("a.ptcap"), "--file-info",
                              "--dialect=viztracer")
    t.has(err, "warning", "no source files", "give --dialect and")
    os.unlink(t.path("a.ptcap"))
    for options in (["-o", t.path("a-%p.ptcap")], ["-o", t.path("a.ptcap"), "--pid-suffix"],
                    ["-o", "-", "--pid-suffix"], ["-o", t.path("%p") + "/a.json"]):
        _, err = process.run_tool("-p", target.pid, *options, code=2)
        t.has(err, "error")
    process.run_tool("-p", target.pid, "--dialect", "made-up", code=2)
    t.equal(os.listdir(t.folder), ["log"], "files")
    target.kill()
