# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Runs test functions, each in a process of its own with a time limit.

A test is a function test_*(t); t is a Context. A test passes when it returns, is skipped when it
raises Skip with the reason, and fails at any other exception. @each(name=values) makes one test a
value. Whatever processes a test leaves behind are killed: its process is their subreaper.
"""
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from . import process

PASS, FAIL, SKIP = 0, 1, 77
PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h


class Skip(Exception):
    pass


class Context:
    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def check(condition, text, *args):
        if not condition:
            raise AssertionError(text % args if args else text)

    @staticmethod
    def equal(got, expected, what):
        if got != expected:
            raise AssertionError("%s: %r, expected %r" % (what, got, expected))

    def has(self, text, *parts):
        for part in parts:
            self.check(part.lower() in text.lower(), "the text has no %r:\n%s", part, text)


def each(**values):
    """Parametrises a test: @each(interp=list) calls it with interp=value for each value."""
    def mark(function):
        function.parameters = getattr(function, "parameters", [])
        (name, options), = values.items()
        function.parameters.insert(0, (name, options))
        return function
    return mark


def limit(seconds):
    def mark(function):
        function.limit_s = seconds
        return function
    return mark


def alone(function):
    """Runs while no other test does: it measures, or is in the way of others."""
    function.alone = True
    return function


class Test:
    def __init__(self, name, function, arguments):
        self.name, self.function, self.arguments = name, function, arguments
        self.limit_s = getattr(function, "limit_s", 120)
        self.alone = getattr(function, "alone", False)


def expand(module, function):
    rows = [((), {})]
    for name, options in getattr(function, "parameters", []):
        values = options() if callable(options) else options
        rows = [(labels + (getattr(v, "__name__", str(v)),), dict(arguments, **{name: v}))
                for labels, arguments in rows for v in values]
    base = "%s.%s" % (module.__name__.rpartition(".")[2].replace("test_", ""),
                      function.__name__[len("test_"):])
    for labels, arguments in rows:
        yield Test(base + ("[%s]" % ",".join(labels) if labels else ""), function, arguments)


def collect(modules):
    tests = []
    for module in modules:
        for name, function in vars(module).items():
            if name.startswith("test_") and callable(function):
                tests.extend(expand(module, function))
    return tests


def children_of(pid):
    """Every descendant, from /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as file:
                    parents.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(
                        int(entry))
            except (OSError, IndexError):
                pass
    found, todo = [], [pid]
    while todo:
        for child in parents.get(todo.pop(), ()):
            found.append(child)
            todo.append(child)
    return found


def kill_descendants(pid):
    for child in children_of(pid):
        try:
            os.kill(child, signal.SIGCONT)
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run_here(test, folder):
    """In the test's own process: runs it and returns the exit status."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    status = FAIL
    try:
        test.function(Context(folder), **test.arguments)
        status = PASS
    except Skip as reason:
        print("skipped: %s" % reason)
        status = SKIP
    except AssertionError as error:
        # Where the test stood, and what it found; how it was found is the harness's business.
        where = [f for f in traceback.extract_tb(error.__traceback__)
                 if f.name == test.function.__name__] or traceback.extract_tb(error.__traceback__)
        print("%s:%d: %s\n%s" % (os.path.basename(where[-1].filename), where[-1].lineno,
                                 where[-1].line, error))
    except BaseException:
        traceback.print_exc()
    # The tracer first gets a chance to end by itself, then everything is killed.
    end = time.monotonic() + 5
    while time.monotonic() < end and children_of(os.getpid()):
        kill_descendants(os.getpid())
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.02)
    process.clean_up()
    return status


class Running:
    def __init__(self, test):
        self.test = test
        self.folder = tempfile.mkdtemp(prefix="pytrace-e2e.")
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.begin = time.monotonic()
        self.timed_out = False
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(self.log.fileno(), 1)
            os.dup2(self.log.fileno(), 2)
            devnull = os.open(os.devnull, os.O_RDONLY)
            os.dup2(devnull, 0)
            status = FAIL
            try:
                status = run_here(test, self.folder)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)

    def poll(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() - self.begin <= self.test.limit_s:
                return None
            self.timed_out = True
            kill_descendants(self.pid)
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else FAIL

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


def run(tests, jobs=2, keep=False, out=sys.stdout):
    """Runs all; prints one line a test; returns {name: PASS, FAIL or SKIP}."""
    results = {}
    todo = [t for t in tests if not t.alone] + [t for t in tests if t.alone]
    running = []

    def line(text):
        out.write(text + "\n")
        out.flush()

    try:
        while todo or running:
            while todo and len(running) < jobs:
                if running and (todo[0].alone or running[0].test.alone):
                    break
                running.append(Running(todo.pop(0)))
            for r in list(running):
                status = r.poll()
                if status is None:
                    continue
                running.remove(r)
                text = r.text().strip()
                took = time.monotonic() - r.begin
                results[r.test.name] = status
                if status == PASS:
                    note = text.splitlines()[-1] if text else ""
                    line("ok      %-58s %5.1f s  %s" % (r.test.name, took, note))
                elif status == SKIP:
                    line("skipped %-58s %s" % (r.test.name, text.splitlines()[-1][9:]))
                else:
                    line("FAILED  %-58s %5.1f s%s" % (
                        r.test.name, took, "  (time limit)" if r.timed_out else ""))
                    line("        " + "\n        ".join(text.splitlines()[-80:]))
                r.log.close()
                if status == FAIL and keep:
                    line("        kept: %s" % r.folder)
                else:
                    shutil.rmtree(r.folder, ignore_errors=True)
            time.sleep(0.01)
    except KeyboardInterrupt:
        for r in running:
            kill_descendants(r.pid)
            os.kill(r.pid, signal.SIGKILL)
        raise
    return results


def choose(tests, patterns):
    if not patterns:
        return tests
    # Names hold brackets, so this is no fnmatch: * is any text, and a part of a name is enough.
    wanted = [re.compile(".*".join(re.escape(part) for part in p.split("*"))) for p in patterns]
    return [t for t in tests if any(w.search(t.name) for w in wanted)]


def summary(results):
    count = {s: sum(1 for r in results.values() if r == s) for s in (PASS, FAIL, SKIP)}
    text = "%d passed, %d failed" % (count[PASS], count[FAIL])
    if count[SKIP]:
        text += ", %d skipped" % count[SKIP]
    return text, count[FAIL]


def have(program):
    return shutil.which(program) is not None


def output(command, **kwargs):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
                          universal_newlines=True, **kwargs).stdout
