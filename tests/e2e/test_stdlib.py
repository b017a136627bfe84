# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""CPython's own tests, traced: each test ends as it does untraced and is there as often as unittest
says, and has exactly the calls that CPython's hooks report. And random programs, likewise.

What the hooks themselves change is left out of the comparison, test by test (OBSERVER); all of it
was looked at, and the trace was right.
"""
import json
import subprocess

from harness import compare, interpreters, process, trace
from harness.runner import Skip, each

MODULES = ["test.test_coroutines", "test.test_asyncgen.AsyncGenTest", "test.test_class"]
# Parts of tests' IDs, with the reason.
OBSERVER = {
    "RecursionLimit": "a hook needs frames below the limit, too",
    "test_fatal_coro_warning": "up to 3.10 sys.setprofile keeps the locals of a frame alive",
    "test_for_assign_raising_stop_async_iteration": "likewise",
    "test_unawaited_warning_when_module_broken": "likewise",
    "test_stack_in_coroutine_throw": "linecache has read the files already, or not",
    "test_origin_tracking": "likewise",
    "test_async_gen_exception_11": "drive.py takes throw(GeneratorExit) for close()",
}


def with_tests(minor):
    """An interpreter that has CPython's tests: Debian's packages leave them out."""
    for interp in interpreters.every():
        if "%d.%d" % interp.minor == minor and not interp.root and not subprocess.run(
                interp.command("-c", "import test.test_asyncgen"), env=process.environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return interp
    raise Skip("no Python %s with the tests of CPython" % minor)


def done(text):
    line, = (line for line in text.splitlines() if line.startswith("done "))
    return json.loads(line.partition(" ")[2])


def by_test(events):
    """{name: the events from its first one to its last}"""
    found, begin, depth = {}, None, 0
    for i, (enter, key) in enumerate(events):
        if begin is None:
            if not (enter and key[2].startswith("T:")):
                continue
            begin, depth = i, 0
        depth += 1 if enter else -1
        if not depth:
            found.setdefault(key[2], []).append(events[begin:i + 1])
            begin = None
    return found


def left_out(name, events):
    """Also, from a pipe comes what there is: a child's output in one piece or more."""
    return any(part in name for part in OBSERVER) or any(key[0].endswith("/subprocess.py")
                                                         for _, key in events)


def compare_tests(t, oracle, got):
    """Returns how many tests were compared, and their events."""
    t.equal(set(got), set(oracle), "tests in the trace")
    tests = events = 0
    different = []
    for name, (expected,) in oracle.items():
        if left_out(name, expected):
            continue
        one, = got[name]
        if one != expected:
            different.append(compare.difference(expected, one, name))
        tests += 1
        events += len(one)
    if different:
        raise compare.Mismatch("\n".join(different[:3]))
    return tests, events


@each(minor=["3.8", "3.11", "3.13"])
def test_modules(t, minor):
    interp = with_tests(minor)
    command = process.drive_command(interp, "stdlib_tests", *MODULES, options=("--go", "--exit"))
    plain = done(subprocess.run(command, stdout=subprocess.PIPE, env=process.environment(),
                                check=True, timeout=process.WAIT_S).stdout.decode())
    out, _ = process.run_tool("--follow=no", "-o", t.path("trace.json"), "--", *command)
    t.equal(done(out), plain, "how the tests ended")
    got = trace.load(t.path("trace.json"))
    pid, = got.processes
    oracle = compare.Oracle(process.run_oracle(interp, "stdlib_tests", *MODULES, folder=t.folder))
    main, = (events for is_main, events in oracle.threads if is_main)
    seen = by_test(compare.prune(compare.trace_events(got.threads[pid, pid]), oracle.version))
    t.equal({name: "+" * len(found) for name, found in seen.items()},
            {"T:" + name: "+" for name in plain}, "how often each test is in the trace")
    tests, events = compare_tests(t, by_test(compare.prune(main, oracle.version)), seen)
    print("%d tests of %d, %d enters and exits" % (tests, len(plain), events))


@each(minor=["3.10", "3.11", "3.12", "3.15"])
def test_random(t, minor):
    interp = interpreters.one(minor)
    args = (str(interp.minor[1]), "400")
    command = process.drive_command(interp, "wild", *args, options=("--go", "--exit"))
    process.run_tool("-o", t.path("trace.json"), "--", *command)
    got = trace.load(t.path("trace.json"))
    pid, = got.processes
    oracle = compare.Oracle(process.run_oracle(interp, "wild", *args, folder=t.folder))
    print("%d enters and exits" % compare.compare(oracle, got, pid)[0])
