# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Runs inside the guest, as root: the same attach-and-compare test as tests/e2e, in this kernel.

Each test prints one line "vm-result<TAB>PASS|FAIL<TAB>name<TAB>detail" on the console; what a failed
one needs to be understood follows as "vm-log" lines. The process ends with 0 when every test ran,
passed or not: tests/vm/run.sh counts the lines.
"""
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, "/test/e2e")
from harness import compare, trace  # noqa: E402

TOOL = "/usr/bin/pytrace-bpf"
PROGRAMS = "/test/e2e/programs"
LIMIT_S = 480  # the slowest test takes 40 s on an idle machine; here it runs beside others
RECORDING = r"^pytrace-bpf: recording \d+, (.*?)(; .*)?$"
UNSUPPORTED = 5
# what the tracer can do without, and the kernel that brought it
SINCE = {"task storage": (5, 12), "attach cookies": (5, 15), "uprobe.multi": (6, 6),
         "registers of a task": (5, 15)}

# all that the probes can do with names and short calls, without an effect on what is recorded
BY_NAME = ("--start-on", "*", "--stop-on", "no such function", "--min-duration", "1ns", "--lines")

# values of every call; together with the above it is the largest program
VALUES = ("--args", "*", "--retval", "*", "--local", "*:x,*:i")

results = 0


class Failed(Exception):
    pass


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def log(text):
    for line in text.rstrip().splitlines():
        say("vm-log  " + line)


def run_test(name, function, *args):
    global results
    results += 1
    began = time.monotonic()
    try:
        detail = function(*args)
        say("vm-result\tPASS\t%s\t%s, %.1f s" % (name, detail, time.monotonic() - began))
    except (Failed, AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
        first, _, rest = str(error).partition("\n")
        say("vm-result\tFAIL\t%s\t%s" % (name, first))
        log(rest if isinstance(error, (Failed, AssertionError)) else traceback.format_exc())


def read_until(pipe, pattern, what):
    """Reads lines of a pipe until one matches; returns the match and all that was read."""
    text, end = "", time.monotonic() + LIMIT_S
    while True:
        match = re.search(pattern, text, re.MULTILINE)
        if match:
            return match, text
        ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
        chunk = os.read(pipe.fileno(), 65536).decode(errors="replace") if ready else ""
        if not chunk:
            raise Failed("%s: %s\n%s" % (what, "ended" if ready else "nothing in time", text))
        text += chunk


def command_of(interpreter, *args):
    root, path = interpreter.split(":")
    chroot = [] if root == "host" else ["chroot", "/roots/" + root]
    return [*chroot, path, "-B", *args]


class Target:
    """drive.py with one of its programs, or a program by itself, under an interpreter of this
    guest."""

    def __init__(self, interpreter, program, *options):
        script = [program, *options] if program.endswith(".py") else ["drive.py", *options, program]
        command = command_of(interpreter, PROGRAMS + "/" + script[0], *script[1:])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        read_until(self.process.stdout, r"^ready \d+$", "the target")
        self.pid = self.process.pid

    def go(self):
        self.process.stdin.write(b"x")
        self.process.stdin.flush()

    def wait_done(self):
        """What the program says of itself."""
        match, _ = read_until(self.process.stdout, r"^done (.*)\n", "the target")
        return json.loads(match[1])

    def end(self):
        if self.process.poll() is None:
            self.go()
        code = self.process.wait(LIMIT_S)
        if code != 0:
            raise Failed("the target ended with %d" % code)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def text_differences(pid):
    """Bytes of the executable mappings of files that differ from the files: breakpoints left."""
    count = 0
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            fields = line.split()
            if "x" not in fields[1] or len(fields) < 6 or not fields[5].startswith("/"):
                continue
            begin, end = (int(x, 16) for x in fields[0].split("-"))
            with open(fields[5], "rb") as file:  # as seen from our root
                file.seek(int(fields[2], 16))
                expected = file.read(end - begin)
            mem.seek(begin)
            got = mem.read(len(expected))
            if got != expected:
                count += sum(a != b for a, b in zip(got, expected))
    return count


def tool(*args):
    return subprocess.run([TOOL, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT_S, errors="replace")


def test_check():
    done = tool("check")
    if done.returncode != 0:
        raise Failed("exit code %d\n%s" % (done.returncode, done.stdout))
    log(done.stdout)
    kernel = tuple(int(x) for x in re.findall(r"\d+", os.uname().release)[:2])
    expected = {name for name, since in SINCE.items() if kernel < since}
    fallbacks = set(re.findall(r"^fallback +(\S+(?: \S+)*)", done.stdout, re.MULTILINE))
    fallbacks = {name for name in SINCE if any(f.startswith(name) for f in fallbacks)}
    if fallbacks != expected:
        raise Failed("fallbacks for %s, expected for %s\n%s" % (fallbacks, expected, done.stdout))
    return "fallbacks: " + (", ".join(sorted(fallbacks)) or "none")


def start_tracer(target, path, *options):
    return subprocess.Popen([TOOL, "-v", *options, "-p", str(target.pid), "-o", path],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)


class Recording:
    """A target that a tracer records, from when it does."""

    def __init__(self, path, target, *options):
        self.target, self.tracer = target, start_tracer(target, path, *options)

    def __enter__(self):
        try:
            self.line, self.said = read_until(self.tracer.stderr, RECORDING, "the tracer")
        except BaseException:
            self.__exit__()
            raise
        return self

    def stop(self):
        """Ends it. said is all that the tracer said, said_since what it said while it recorded."""
        self.tracer.send_signal(signal.SIGINT)
        self.said_since = self.tracer.communicate(timeout=LIMIT_S)[1].decode(errors="replace")
        self.said += self.said_since
        if self.tracer.returncode != 0:
            raise Failed("the tracer ended with %d\n%s" % (self.tracer.returncode, self.said))

    def run(self):
        """The target does what it does, and ends behind the recording; what it says of itself."""
        self.target.go()
        result = self.target.wait_done()
        self.stop()
        self.target.end()
        return result

    def __exit__(self, *_):
        if self.tracer.poll() is None:
            self.tracer.kill()
            self.tracer.wait()
        self.target.kill()


def run_oracle(interpreter, program):
    path = "/tmp/oracle.json"
    target = Target(interpreter, program, "--oracle", path)
    target.go()
    target.wait_done()
    target.end()
    return compare.Oracle(path)


def test_attach(interpreter, program, *options):
    trace_path = "/tmp/trace.json"
    oracle = run_oracle(interpreter, program)
    with Recording(trace_path, Target(interpreter, program), *options) as recording:
        recording.target.go()
        recording.target.wait_done()
        recording.stop()
        left = text_differences(recording.target.pid)
        if left:
            raise Failed("%d bytes of the target's text differ after the end" % left)
        recording.target.end()
        log(recording.said)
        events, threads = compare.compare(oracle, trace.load(trace_path), recording.target.pid)
        return "%d enters and exits of %d threads equal; %s" % (
            events, threads, recording.line.group(1))


def test_lines(interpreter):
    """The lines of calls, against the program's own notes."""
    with Recording("/tmp/lines.json", Target(interpreter, "lines"), "--lines",
                   "--async") as recording:
        seen = recording.run()["seen"]
        slices = sorted(trace.load("/tmp/lines.json").slices(), key=lambda s: s.begin)
        lines = [s.args.get("CallFrom") for s in slices if s.name == "here"]
        left = iter(seen)
        if len(lines) < 80 or not all(line in left for line in lines):
            raise Failed("%d lines, not as the program noted" % len(lines), lines)
        return "%d lines equal" % len(lines)


def test_executes(interpreter):
    """The process's own probes stay of use in what it executes, by whatever means they are made."""
    with Recording("/tmp/executes.json", Target(interpreter, "forks.py", "itself"),
                   "--follow=no") as recording:
        recording.run()
        log(recording.said)
        count = len(trace.load("/tmp/executes.json").named("leaf"))
        if count != 30 + 50:
            raise Failed("%d calls, not 30 before and 50 behind" % count)
        return "%d calls" % count


def test_launch(interpreter, program):
    """Launched, the target is exec'd under the tracer: the probes are there before the process."""
    oracle = run_oracle(interpreter, program)
    command = command_of(interpreter, PROGRAMS + "/drive.py", "--go", "--exit", program)
    done = subprocess.run([TOOL, "-o", "/tmp/trace.json", "--", *command], timeout=LIMIT_S,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, errors="replace")
    ready = re.search(r"^ready (\d+)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not ready:
        raise Failed("exit code %d\n%s%s" % (done.returncode, done.stdout, done.stderr))
    log(done.stderr)
    events, threads = compare.compare(oracle, trace.load("/tmp/trace.json"), int(ready[1]))
    return "%d enters and exits of %d threads equal" % (events, threads)


def test_runtime(interpreter):
    """All that is no call, at once: this kernel takes those programs, and the exceptions are those
    that the program raised."""
    with Recording("/tmp/runtime.json", Target(interpreter, "raises"), "--gc", "--gil",
                   "--imports", "--exceptions", "--audit", "*") as recording:
        expected = [name for name, _ in recording.run()["expected"]]
        if "does nothing" in recording.said:
            raise Failed(recording.said)
        got = trace.load("/tmp/runtime.json")
        windows = [s for s in got.slices() if s.name == "everything"]
        for window in windows:
            found = [e["name"] for e in sorted(got.instants, key=lambda e: e["ts"])
                     if e["cat"] == "exception" and e["tid"] == window.event["tid"] and
                     window.begin <= e["ts"] <= window.end]
            if found != expected:
                raise Failed("exceptions: %s, expected %s" % (found, expected))
        audits = sum(e["cat"] == "audit" for e in got.instants)
        if len(windows) != 2 or not audits:
            raise Failed("%d threads, %d audit events" % (len(windows), audits))
        return "%d exceptions on each of 2 threads, %d audit events" % (len(expected), audits)


def test_states(interpreter):
    """Thread states: naps and what else the program waits for, by system call, without a gap."""
    with Recording("/tmp/states.json", Target(interpreter, "states"), "--sched") as recording:
        result = recording.run()
        if "not recorded" in recording.said_since:
            raise Failed(recording.said)
        got = trace.load("/tmp/states.json")
        count, untold = 0, 0
        for name, tid, before, after, _ in result["asked"]:
            states = got.states[recording.target.pid, tid]
            # rarely a kernel switches without telling; that is told of
            if any(s.name == "states lost" for s in states):
                untold += 1
                continue
            call, = [s for s in got.named(name) if s.event["tid"] == tid]
            inside = [s for s in states if call.begin <= s.begin < call.end]
            blocked = [s.name for s in inside if s.name.startswith("blocked")]
            # time.sleep() is select() up to 3.10
            calls, wanted = {"nap": (("clock_nanosleep", "select", "pselect6"), result["naps"]),
                             "wait_for_lock": (("futex",), 1),
                             "wait_for_pipe": (("read",), 1)}.get(name, ((), 0))
            if sum(blocked.count("blocked: " + c) for c in calls) < wanted:
                raise Failed("%s was %s" % (name, [s.name for s in inside]))
            if len(blocked) > after[0] - before[0]:
                raise Failed("%s was blocked %d times, the kernel says %d" % (
                    name, len(blocked), after[0] - before[0]))
            count += len(states)
        if any(got.holes.values()) or untold > 2:
            raise Failed("times without a state: %s, %d threads" % (got.holes, untold))
        return "%d states of %d threads" % (count, len(result["asked"]))


def test_c_functions(interpreter, *options, wanted="all"):
    """Their programs are loaded by this kernel, or it is said that they are not."""
    command = command_of(interpreter, PROGRAMS + "/sorted_seed.py")
    done = subprocess.run([TOOL, "-v", "--c-functions=" + wanted, *options, "-o", "/tmp/trace.json", "--",
                           *command], timeout=LIMIT_S, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")
    if done.returncode != 0:
        raise Failed("exit code %d\n%s%s" % (done.returncode, done.stdout, done.stderr))
    log(done.stderr)
    got = trace.load("/tmp/trace.json")
    if os.uname().release.startswith("5.10."):
        if "--c-functions: not recorded" not in done.stderr:
            raise Failed("no word of what this kernel lacks\n" + done.stderr)
        return "refused with the reason"
    outer = [s for s in got.named("<built-in function sorted>")
             if [c.name for c in s.children] == ["get_key"] * 2]
    inner = [c.name for s in outer for key in s.children for c in key.children]
    if inner != ["<built-in function sleep>", "<built-in function repr>"] * 2:
        raise Failed("sorted() is not as it was called: %r" % inner)
    way = "at themselves" if "probed at themselves" in done.stderr else "where they are called"
    return "%d slices; probed %s" % (got.count, way)


def test_chosen_c_functions(interpreter):
    """Probed at themselves where the kernel can do it, else where they are called."""
    said = test_c_functions(interpreter, "--follow=exact", wanted="sorted,repr,sleep")
    release = tuple(int(x) for x in os.uname().release.split(".")[:2])
    if ("at themselves" in said) != (release >= (6, 6)):
        raise Failed(said)
    return said


def test_samples(interpreter, *options):
    """Sampling: this kernel takes the program, and the functions that have the time have samples."""
    with Recording("/tmp/samples.folded", Target(interpreter, "shares"), "--engine", "sample",
                   "-F", "499", *options) as recording:
        recording.run()
        counts = {}
        with open("/tmp/samples.folded") as file:
            for line in file:
                stack, _, count = line.rstrip("\n").rpartition(" ")
                counts[stack] = int(count)
        total = sum(n for stack, n in counts.items() if "[blocked: " not in stack)
        heavy = sum(n for stack, n in counts.items() if ";work (" in stack and ";heavy (" in stack and
                    "[blocked: " not in stack)
        # a third of the CPU time, but a guest without KVM stands still whenever its host likes
        if total < 50 or heavy < total // 20:
            raise Failed("%d of %d samples in heavy()\n%s" % (heavy, total, "\n".join(counts)))
        if "not recorded" in recording.said_since:
            raise Failed(recording.said)
        # its two threads wait for the GIL
        if "--off-cpu" in options and not any(s.endswith("[blocked: futex]") for s in counts):
            raise Failed("nothing is blocked\n%s" % "\n".join(counts))
        whole = sum(n for stack, n in counts.items() if "that are not known" not in stack and
                    "libc" in stack)
        if "--native" in options and whole < total // 2:
            raise Failed("%d of %d samples are whole\n%s" % (whole, total, "\n".join(counts)))
        unit = "us" if "--off-cpu" in options else "samples"
        return "%d %s, %d of them in heavy()" % (total, unit, heavy)


def test_hybrid(interpreter, *options):
    """Samples and probes in one recording: the collections and exceptions that the program had."""
    with Recording("/tmp/hybrid.json", Target(interpreter, "hybrid"), "--engine", "hybrid",
                   "-F", "499", "--exceptions", "--gil", "--c-functions", "time.sleep",
                   *options) as recording:
        did = [what for _, what in recording.run()["did"]]
        got = trace.load("/tmp/hybrid.json")
        collected = len(got.spans_of("gc"))
        raised = sum(e["name"] == "KeyError" for e in got.instants)
        samples = len(got.spans_of("python_sample"))
        expected = sum(what.startswith("gc") for what in did), did.count("KeyError")
        if (collected, raised) != expected or not samples:
            raise Failed("%d collections, %d exceptions, not %s; %d sampled slices\n%s" %
                         (collected, raised, expected, samples, recording.said))
        if got.count != ("not recorded" not in recording.said) * did.count("sleep"):
            raise Failed("%d calls of sleep()\n%s" % (got.count, recording.said))
        return "%d collections, %d exceptions, %d sleeps" % (collected, raised, got.count)


def test_kill(interpreter):
    """The tracer is killed while the target runs under it; the kernel has to clean up."""
    target = Target(interpreter, "callforms")
    tracer = start_tracer(target, "/tmp/killed.json")
    try:
        read_until(tracer.stderr, RECORDING, "the tracer")
        during = text_differences(target.pid)
        if during == 0:
            raise Failed("no breakpoint was in the target while it was traced")
        target.go()
        time.sleep(0.2)
        tracer.kill()
        tracer.wait(LIMIT_S)
        end = time.monotonic() + LIMIT_S
        while text_differences(target.pid):
            if time.monotonic() > end:
                raise Failed("%d bytes still differ" % text_differences(target.pid))
            time.sleep(0.1)
        target.wait_done()
        target.end()
        return "%d bytes differed, then none" % during
    finally:
        if tracer.poll() is None:
            tracer.kill()
            tracer.wait()
        target.kill()


def test_no_btf(interpreter):
    """Where the kernel has no BTF (here it is covered by an empty folder), the tool must say so."""
    target = Target(interpreter, "small_a")
    try:
        script = "mount -t tmpfs none /sys/kernel/btf && exec %s -p %d -o /tmp/no.json" % (
            TOOL, target.pid)
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S,
                              errors="replace")
        if done.returncode != UNSUPPORTED:
            raise Failed("exit code %d, not %d\n%s" % (
                done.returncode, UNSUPPORTED, done.stdout))
        if "BTF" not in done.stdout:
            raise Failed("the message does not name BTF\n" + done.stdout)
        if os.path.exists("/tmp/no.json"):
            raise Failed("a trace was left behind")
        return done.stdout.strip().splitlines()[0]
    finally:
        target.kill()


LIBC = "print([l.split()[-1] for l in open('/proc/self/maps') if '/libc.' in l or '/libc-' in l][0])"
MARKS = """
import ctypes
libc = ctypes.CDLL(None)
for i in range(20):
    libc.a64l(b"mark %d" % i, i)
    libc.l64a(i)
"""


def test_marks(interpreter, *options):
    """Probes of the user's: this kernel takes their programs, or it is said that it does not."""
    path = subprocess.check_output(command_of(interpreter, "-c", LIBC), text=True).strip()
    done = subprocess.run([TOOL, "--probe", "uprobe:%s:a64l(name:str,value:int)" % path,
                           "--probe", "uprobe:%s:l64a(value:long)=slice" % path, "-o",
                           "/tmp/marks.json", *options, "--",
                           *command_of(interpreter, "-c", MARKS)],
                          timeout=LIMIT_S, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, errors="replace")
    log(done.stderr)
    if os.uname().release.startswith("5.10."):
        if done.returncode != 5 or "--probe and --nvtx are not possible here" not in done.stderr:
            raise Failed("exit code %d\n%s" % (done.returncode, done.stderr))
        return "refused with the reason"
    if done.returncode != 0:
        raise Failed("exit code %d\n%s%s" % (done.returncode, done.stdout, done.stderr))
    got = trace.load("/tmp/marks.json")
    events = [(e["name"], e["args"]["value"]) for e in sorted(got.instants, key=lambda e: e["ts"])]
    slices = [s.args["value"] for s in got.spans_of("mark")]
    if events != [("mark %d" % i, i) for i in range(20)] or slices != list(range(20)):
        raise Failed("marks: %r, slices: %r" % (events, slices))
    stacks = sum("sf" in e for e in got.events)
    if stacks != (40 if options and "--stacks mark: not recorded" not in done.stderr else 0):
        raise Failed("%d stacks\n%s" % (stacks, done.stderr))
    return "%d instants, %d slices" % (len(events), len(slices))


def version_of(interpreter):
    command = command_of(interpreter, "-c", "import platform; print(platform.python_version())")
    return subprocess.check_output(command, text=True).strip()


def main():
    with open("/test/interpreters") as file:
        interpreters = file.read().split()
    run_test("check", test_check)
    for interpreter in interpreters:
        label = "Python %s (%s)" % (version_of(interpreter), interpreter.split(":")[0])
        for program in ("callforms", "threads"):
            run_test("%s, %s" % (label, program), test_attach, interpreter, program)
        run_test("%s, runtime" % label, test_runtime, interpreter)
        run_test("%s, states" % label, test_states, interpreter)
        run_test("%s, samples" % label, test_samples, interpreter)
        if label.startswith("Python 3.9."):  # the one that Debian has with entry and return probes
            run_test("%s, usdt" % label, test_attach, interpreter, "callforms", "--engine=usdt")
        run_test("%s, lines" % label, test_lines, interpreter)
        run_test("%s, executes itself" % label, test_executes, interpreter)
        run_test("%s, by name" % label, test_attach, interpreter, "callforms", *BY_NAME)
        run_test("%s, values" % label, test_attach, interpreter, "callforms", *VALUES)
        run_test("%s, values by name" % label, test_attach, interpreter, "callforms", *VALUES,
                 *BY_NAME)
    run_test("samples with native frames", test_samples, interpreters[0], "--native")
    run_test("samples, and what blocks", test_samples, interpreters[0], "--off-cpu")
    run_test("samples, and what blocks, native", test_samples, interpreters[0], "--native",
             "--off-cpu")
    run_test("samples and probes", test_hybrid, interpreters[0])
    run_test("samples and probes, and what blocks", test_hybrid, interpreters[0], "--off-cpu")
    run_test("launched", test_launch, interpreters[0], "callforms")
    run_test("C functions", test_c_functions, interpreters[0])
    run_test("C functions of a list", test_chosen_c_functions, interpreters[0])
    run_test("C functions, by name", test_c_functions, interpreters[0], *BY_NAME)
    run_test("probes of the user's", test_marks, interpreters[0])
    run_test("probes of the user's, stacks", test_marks, interpreters[0], "--stacks", "mark")
    run_test("tracer killed", test_kill, interpreters[0])
    run_test("refused without BTF", test_no_btf, interpreters[0])
    say("vm-end %d" % results)


main()
