# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The processes of a benchmark: programs under test, and tracers around them."""
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ANSWER_SECONDS = 120


class BenchError(Exception):
    pass


def source(name):
    with open(os.path.join(HERE, "targets", name)) as file:
        return file.read()


def pin(cpu):
    """For preexec_fn: the process and what it starts run on this CPU only."""
    return (lambda: os.sched_setaffinity(0, {cpu})) if cpu is not None else None


class Lines:
    """Reads lines of a pipe with a time limit."""

    def __init__(self, pipe):
        self.fd, self.rest = pipe.fileno(), b""

    def next(self, seconds):
        end = time.monotonic() + seconds
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise BenchError("no answer within %g s; so far: %r" % (seconds, self.rest[-500:]))
            data = os.read(self.fd, 65536)
            if not data:
                raise BenchError("the process ended; its last words: %r" % self.rest[-500:])
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode(errors="replace")


class Slice:
    """One answer of a program under test."""

    def __init__(self, line):
        units, calls, cpu_ns, wall_ns = (int(x) for x in line.split())
        if units == 0:
            raise BenchError("a slice was too short for one unit of work")
        self.calls = units * calls
        self.units = units
        self.cpu_ns_per_unit = cpu_ns / units
        self.wall_ns_per_unit = wall_ns / units
        self.cpu_ns_per_call = cpu_ns / self.calls if calls else None


class Process:
    """A child with its stdin and stdout as pipes; killed when the with block ends."""

    def __init__(self, command, cpu=None, env=None, stderr=None):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=stderr, preexec_fn=pin(cpu),
                                      env=dict(os.environ, **env) if env else None)
        self.pid = self.child.pid
        self.lines = Lines(self.child.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()

    def send(self, text):
        self.child.stdin.write(text.encode() + b"\n")
        self.child.stdin.flush()

    def ask(self, text, seconds=ANSWER_SECONDS):
        self.send(text)
        return self.lines.next(seconds)


class Target(Process):
    """A Python program from bench/targets that does its work when asked."""

    def __init__(self, interpreter, program, cpu=None, arguments=()):
        super().__init__(interpreter.command("-c", source(program), *arguments), cpu,
                         getattr(interpreter, "env", None))
        self.greeting = self.lines.next(ANSWER_SECONDS)
        if not self.greeting.startswith("ready"):
            raise BenchError("%s said %r" % (program, self.greeting))
        self.traced_pid = self.pid

    def start(self, seconds):
        self.send("%g" % seconds)

    def finish(self, seconds=ANSWER_SECONDS):
        return Slice(self.lines.next(seconds))

    def run(self, seconds):
        self.start(seconds)
        return self.finish(seconds + ANSWER_SECONDS)


class System:
    """The interpreter that the benchmark itself runs on."""

    @staticmethod
    def command(*args):
        return [sys.executable, *args]


class WebTarget(Target):
    """A server in the interpreter under test and its client, which is the one that is asked."""

    def __init__(self, interpreter, cpu, client_cpu):
        self.server = Process(interpreter.command("-c", source("webserver.py")), cpu,
                              getattr(interpreter, "env", None))
        try:
            port = self.server.lines.next(ANSWER_SECONDS).split()[1]
            super().__init__(System, "webclient.py", client_cpu, (port,))
        except BaseException:
            self.server.__exit__()
            raise
        self.traced_pid = self.server.pid

    def __exit__(self, *args):
        super().__exit__(*args)
        self.server.__exit__(*args)


class CostProbe(Process):
    """bench/event_cost.c around one or more targets."""

    def __init__(self, program, targets, cpu=None, engine="frame", reach="process", cache=None,
                 ring_bytes=None, cuda=None):
        command = [program, "--engine", engine, "--reach", reach]
        command += ["--cuda", cuda] if cuda else []
        command += ["--cache", cache] if cache else []
        command += ["--ring", str(ring_bytes)] if ring_bytes else []
        super().__init__(command + [",".join(str(t.traced_pid) for t in targets)], cpu)
        self.image = json.loads(self.lines.next(ANSWER_SECONDS))

    def mode(self, name):
        return json.loads(self.ask(name))


def _waited_seconds(pid):
    """How long the process's first thread was ready to run while something else had its CPU."""
    try:
        with open("/proc/%d/schedstat" % pid) as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Recording:
    """pytrace-bpf around a target. gate_seconds: from its start to its line that it records;
    queue_seconds: how much of that it waited for its CPU, which others had."""

    GATE = re.compile(r"recording (PID )?\d+")

    def __init__(self, tool, pid, out, cpu=None, options=()):
        self.out, self.text = out, []
        begin = time.monotonic()
        self.child = subprocess.Popen([tool, "-p", str(pid), "-o", out, *options],
                                      stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      preexec_fn=pin(cpu))
        lines = Lines(self.child.stderr)
        try:
            while not self.text or not self.GATE.search(self.text[-1]):
                self.text.append(lines.next(ANSWER_SECONDS))
        except BenchError as error:
            self.kill()
            raise BenchError("%s did not start recording: %s" % (tool, error)) from None
        self.gate_seconds = time.monotonic() - begin
        self.queue_seconds = _waited_seconds(self.child.pid)
        self.lines = lines

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stderr.close()

    def wait(self, seconds=900):
        """Waits for the end; returns the exit code. finish_seconds: how long it took."""
        begin = time.monotonic()
        with contextlib.suppress(BenchError):
            while True:
                self.text.append(self.lines.next(seconds))
        try:
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BenchError("the tracer did not end; it said %r" % self.text) from None
        self.finish_seconds = time.monotonic() - begin
        self.child.stderr.close()
        return code

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        return self.wait()


class Bpftrace:
    """bpftrace counting the hits of named symbols in one file. It does not say when its probes are
    in place, and forgets a SIGINT that comes earlier; so a timer before and one behind tell."""

    TIMER = 'interval:ms:300 { printf("%s\\n"); }'

    def __init__(self, pid, file, symbols, cpu=None):
        probes = ",".join("uprobe:%s:%s" % (file, s) for s in symbols)
        text = "%s %s { @hits = count(); } %s" % (self.TIMER % "first", probes, self.TIMER % "last")
        self.child = subprocess.Popen(["bpftrace", "-B", "line", "-p", str(pid), "-e", text],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, preexec_fn=pin(cpu))
        self.lines, due = Lines(self.child.stdout), {"first", "last"}
        try:
            while due:
                due.discard(self.lines.next(ANSWER_SECONDS).strip())
        except BenchError as error:
            self.child.kill()
            self.child.wait()
            raise BenchError("bpftrace: %s" % error) from None

    def stop(self):
        """Ends it; returns the hits it counted."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
        try:
            out, _ = self.child.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            out, _ = self.child.communicate()
        out = self.lines.rest.decode(errors="replace") + out.decode(errors="replace")
        found = re.search(r"@hits: (\d+)", out)
        if not found:
            raise BenchError("bpftrace counted nothing; it said %r" % out[-500:])
        return int(found.group(1))
