# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Target programs and the tracer as child processes.

Every wait has a limit; what is left over when a test ends is killed by the runner.
"""
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = os.path.join(HERE, "programs")
TOP = os.path.dirname(os.path.dirname(HERE))
TOOL = os.environ.get("PYTRACE_BPF") or os.path.join(TOP, "build", "pytrace-bpf")
WAIT_S = 60


class ToolError(AssertionError):
    pass


def wait_until(condition, what, limit_s=WAIT_S):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise ToolError("waited %d s for %s in vain" % (limit_s, what))
        time.sleep(0.01)


class Lines:
    """Reads a pipe in a thread; wait() returns the first line that has the text."""

    def __init__(self, pipe):
        self.lines, self.changed, self.closed = [], threading.Condition(), False
        self.pipe = pipe
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        for line in iter(self.pipe.readline, b""):
            with self.changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def wait(self, text, what, limit_s=WAIT_S):
        end = time.monotonic() + limit_s
        with self.changed:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                left = end - time.monotonic()
                if self.closed or left <= 0:
                    raise ToolError("no line with %r from %s; it said:\n%s" % (
                        text, what, "\n".join(self.lines[-40:]) or "(nothing)"))
                self.changed.wait(left)

    def count(self, text):
        with self.changed:
            return sum(text in line for line in self.lines)

    def forget(self):
        with self.changed:
            self.lines.clear()

    def text(self):
        self.thread.join(WAIT_S)
        return "\n".join(self.lines)


def install_programs(interpreter):
    """The folder of programs as the interpreter sees it (copied into its root)."""
    if not interpreter.root:
        return PROGRAMS
    inside = "/tmp/pytrace-e2e-%d" % os.getpid()
    target = interpreter.root + inside
    if not os.path.isdir(target):
        shutil.copytree(PROGRAMS, target)
        CLEAN_UP.append(target)
    return inside


CLEAN_UP = []  # folders


def clean_up():
    for path in CLEAN_UP:
        shutil.rmtree(path, ignore_errors=True)


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env.update(PYTHONDONTWRITEBYTECODE="1", PYTHONHASHSEED="0", LC_ALL="C.UTF-8",
               PYTHONNOUSERSITE="1")
    env.update(more)
    return env


def drive_command(interpreter, program, *args, options=()):
    folder = install_programs(interpreter)
    return interpreter.command(folder + "/drive.py", *options, program, *args)


class Target:
    """programs/drive.py with one program; waits for go() before its workload()."""

    def __init__(self, interpreter, program, *args, options=(), command=None, wrap=(), env=None):
        self.interpreter = interpreter
        command = command or drive_command(interpreter, program, *args, options=options)
        self.popen = subprocess.Popen([*wrap, *command], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      env=env or environment())
        self.out, self.err = Lines(self.popen.stdout), Lines(self.popen.stderr)
        self.pid = self.popen.pid
        if not wrap:
            self.ready()

    def ready(self):
        try:
            return int(self.out.wait("ready", "the target").split()[1])
        except ToolError as error:
            raise ToolError("%s\n%s" % (error, self.err.text())) from None

    def send(self, byte=b"x"):
        try:
            self.popen.stdin.write(byte)
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass

    def go(self):
        self.send()

    def ask(self, byte, text, limit_s=WAIT_S):
        """Sends it and returns the line with the text that comes then; no other may be due."""
        self.out.forget()
        self.send(byte)
        return self.out.wait(text, "the target", limit_s)

    def rests(self, call="read", forever=False):
        """Until its main thread waits in this system call; in futex(), without a time limit."""
        number = {"read": "0", "futex": "202"}[call]

        def waits():
            with open("/proc/%d/syscall" % self.pid) as file:
                now = file.read().split()  # the number, six arguments, ..; or "running"
            return now[0] == number and not (forever and int(now[4], 16))
        wait_until(waits, "%d in %s()" % (self.pid, call))

    def state(self):
        """As ps says it: R, S, T .."""
        with open("/proc/%d/stat" % self.pid) as file:
            return file.read().rpartition(")")[2].split()[0]

    def done(self, limit_s=WAIT_S):
        line = self.out.wait("done", "the target", limit_s)
        return json.loads(line.partition(" ")[2])

    def finish(self, limit_s=WAIT_S, byte=b"q"):
        """Lets it end; returns its exit status."""
        self.send(byte)
        return self.popen.wait(limit_s)

    def kill(self, sig=signal.SIGKILL):
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
            return self.popen.wait(WAIT_S)
        return self.popen.returncode


def script(interpreter, name, *args):
    """The command that runs programs/NAME by itself, without drive.py."""
    return interpreter.command(install_programs(interpreter) + "/" + name, *args)


class Copy:
    """An interpreter's own file, copied, so that a test can change or remove it."""

    def __init__(self, interpreter):
        self.interpreter = interpreter
        self.folder = tempfile.mkdtemp(prefix="pytrace-copy.",
                                       dir=interpreter.root + "/tmp" if interpreter.root else None)
        CLEAN_UP.append(self.folder)
        library = self._library()
        self.mapped = os.path.join(self.folder, os.path.basename(library or interpreter.file))
        shutil.copy2(library or interpreter.file, self.mapped)
        self.library = library

    def _library(self):
        """libpython, if the executable is only a small stub around it."""
        prefix = os.path.dirname(os.path.dirname(self.interpreter.path))
        names = glob.glob("%s/lib/libpython%d.%d*.so.1.0" % ((prefix,) + self.interpreter.minor))
        return os.path.realpath(names[0]) if names and not self.interpreter.root else None

    def command(self, *args):
        if self.library:
            return self.interpreter.command(*args)
        root = self.interpreter.root or ""
        inside = self.mapped[len(root):]
        return (["chroot", root] if root else []) + [inside, *args]

    def drive(self, program, *args, options=()):
        folder = install_programs(self.interpreter)
        return self.command(folder + "/drive.py", *options, program, *args)

    def env(self):
        if self.library:
            return environment(LD_LIBRARY_PATH=self.folder)
        return environment()


def text_of(pid):
    """{(start, file offset, path): bytes} of what a process maps executable from files."""
    result = {}
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as memory:
        for line in maps:
            fields = line.split(None, 5)
            if "x" in fields[1] and len(fields) > 5 and fields[5].startswith("/"):
                start, end = (int(x, 16) for x in fields[0].split("-"))
                memory.seek(start)
                data = b""
                while len(data) < end - start:
                    piece = memory.read(end - start - len(data))
                    if not piece:
                        break
                    data += piece
                result[(start, fields[2], fields[5].strip())] = data
    return result


def has_probes(pid):
    """Does the code in its memory differ from that in the files?"""
    for (_, offset, path), data in text_of(pid).items():
        try:
            with open(path, "rb") as file:
                file.seek(int(offset, 16))
                if file.read(len(data)) != data[:os.path.getsize(file.name) - int(offset, 16)]:
                    return True
        except FileNotFoundError:
            pass  # the vDSO's like
    return False


def text_differences(before, after):
    """How many bytes differ; the mappings must be the same."""
    if sorted(before) != sorted(after):
        raise ToolError("the mappings changed: %s" % (set(before) ^ set(after)))
    count, page = 0, 4096
    for key, data in before.items():
        for i in range(0, len(data) if data != after[key] else 0, page):
            a, b = data[i:i + page], after[key][i:i + page]
            if a != b:  # few pages do; to look at each byte of some 30 MB takes seconds
                count += sum(x != y for x, y in zip(a, b))
    return count


# These take no C functions away, or know of no such option.
OTHER_VERBS = ("replay", "report", "check", "list", "merge", "ctl", "kernels", "agent")


class Tracer:
    """The tool, running. recording() waits until its gate is open.

    Without c_default no C functions are recorded unless the arguments ask for them: most tests know
    of Python's calls only. Those that are to hold for what a user gets run with it.
    """

    def __init__(self, *args, stdout=None, cwd=None, env=None, wrap=(), stdin=subprocess.DEVNULL,
                 c_default=False):
        self.args = [str(a) for a in args]
        env = dict(env or environment())
        if not c_default and not set(self.args[:1]) & set(OTHER_VERBS):
            env.setdefault("PYTRACE_BPF_C_FUNCTIONS", "none")
        if not os.access(TOOL, os.X_OK):
            raise ToolError("%s is not there; run make" % TOOL)
        self.popen = subprocess.Popen([*wrap, TOOL, *self.args], stdin=stdin,
                                      stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
                                      cwd=cwd, env=env)
        self.out = Lines(self.popen.stdout) if stdout is None else None
        self.err = Lines(self.popen.stderr)

    @property
    def pid(self):
        return self.popen.pid

    def recording(self, limit_s=WAIT_S):
        return self.err.wait("recording", "pytrace-bpf " + " ".join(self.args), limit_s)

    def wait(self, limit_s=WAIT_S):
        """Until it ends by itself; the exit code."""
        try:
            code = self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise ToolError("pytrace-bpf %s did not end within %d s; it said:\n%s" % (
                " ".join(self.args), limit_s, "\n".join(self.err.lines))) from None
        return code

    def stop(self, sig=signal.SIGINT, limit_s=WAIT_S):
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
        return self.wait(limit_s)

    def expect(self, code, limit_s=WAIT_S, stop=False):
        """Waits (or stops it) and checks the exit code; returns what it said on stderr."""
        got = self.stop(limit_s=limit_s) if stop else self.wait(limit_s)
        text = self.err.text()
        if got != code:
            raise ToolError("pytrace-bpf %s: exit code %s, expected %s; it said:\n%s" % (
                " ".join(self.args), got, code, text or "(nothing)"))
        return text


def run_tool(*args, code=0, limit_s=WAIT_S, **kwargs):
    """Runs the tool to its end; returns (stdout, stderr) as text after checking the exit code."""
    tracer = Tracer(*args, **kwargs)
    err = tracer.expect(code, limit_s)
    return (tracer.out.text() if tracer.out else ""), err


def drained(socket):
    """Until the recorder has taken what lies in its buffer now: it does so between two commands."""
    for _ in range(2):
        run_tool("ctl", "--socket", socket, "status")


def run_oracle(interpreter, program, *args, folder, options=()):
    """The same program under CPython's own hooks; the path of what they saw."""
    path = os.path.join(folder, "oracle-%s-%s.json" % (interpreter.name, program))
    inside = install_programs(interpreter)
    written = path
    if interpreter.root:
        written = inside + "/" + os.path.basename(path)
    command = drive_command(interpreter, program, *args,
                            options=("--go", "--exit", "--oracle", written, *options))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(), timeout=WAIT_S)
    if done.returncode:
        raise ToolError("the oracle failed: %s" % done.stderr.decode(errors="replace"))
    if interpreter.root:
        shutil.move(interpreter.root + written, path)
    return path
