# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The flight recorder: each trigger fires for what it waits for and for nothing else, and what it
captured holds the cause."""
import datetime
import html.parser
import json
import os
import signal
import stat
import subprocess
import tarfile
import time

from harness import interpreters, process, trace
from harness.runner import Skip, each

# The clocks are read at different times, and fewer than a hundred calls fit into it.
MARGIN_NS = 5 * 10**6
FILES = ["meta.json", "report.html", "report.txt", "stacks.txt", "trace.json.gz"]


class Recorder:
    """The tool's capture verb on a target of programs/flight.py."""

    def __init__(self, t, minor, *options, folder=None, **env):
        self.t, self.folder = t, folder or t.path("captures")
        interp = interpreters.one(minor)
        self.target = process.Target(interp, "flight", command=process.script(
            interp, "flight.py", "--password=secret"), env=process.environment(**env))
        self.target.rests()
        self.tool = process.Tracer("capture", "-p", self.target.pid, "-o", self.folder, *options)
        self.tool.recording()
        self.seen = 0

    def do(self, *bytes_):
        for byte in bytes_:
            self.target.ask(byte, "did " + byte.decode())

    def captured(self):
        """The next capture."""
        def lines():
            return [line for line in self.tool.err.lines if "captured " in line]
        process.wait_until(lambda: len(lines()) > self.seen, "a capture")
        line = lines()[self.seen]
        self.seen += 1
        return Capture(self.t, line.split("captured ", 1)[1].split(": ", 1)[0])


class Page(html.parser.HTMLParser):
    """Well-formed, and nothing in it is fetched or run."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(text)
        assert not self.open, "never closed: %s" % self.open

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "img", "link", "iframe", "object"), tag
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}, attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def unpacked(t, path):
    """The folder that an archive holds; everything in it is for its owner alone."""
    t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode of %s" % path)
    into = path + ".unpacked"
    with tarfile.open(path) as tar:
        name = os.path.basename(path)[:-len(".tar.gz")]
        t.equal(tar.getnames(), [name] + [name + "/" + file for file in FILES], "members")
        tar.extractall(into)
    return os.path.join(into, name)


class Capture:
    def __init__(self, t, path):
        if path.endswith(".tar.gz"):
            path = unpacked(t, path)
        self.t, self.path = t, path
        t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o700, "mode of %s" % path)
        t.equal(sorted(os.listdir(path)), FILES, "files of %s" % path)
        for name in FILES:
            t.equal(stat.S_IMODE(os.stat(os.path.join(path, name)).st_mode), 0o600, name)
        with open(os.path.join(path, "meta.json")) as file:
            self.meta = json.load(file)
        self.trace = trace.load(os.path.join(path, "trace.json.gz"))
        for name in ("lost events", "lost records", "damaged records", "stack jumps"):
            t.equal(self.meta[name], 0, name)
        self.page = Page(self.text("report.html")).text
        t.has(self.page, self.meta["trigger"], self.meta["what"])
        for name in FILES[:4]:
            t.check("secret" not in self.text(name), "%s has the command line", name)
        t.check("secret" not in json.dumps(self.trace.document), "the trace has the command line")

    def text(self, name):
        with open(os.path.join(self.path, name)) as file:
            return file.read()

    def causes(self):
        return sorted([self.meta["trigger"]] + [one[0] for one in self.meta["also fired"]])



def cuda_double(t):
    library, version = t.path("double.so"), t.path("version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-Wl,--version-script=" + version, "-o", library,
                    os.path.join(process.PROGRAMS, "flight_double.c")], check=True)
    return library


def short(s):
    return s.name.rpartition(": ")[2]


def mono_ns(text, now):
    """A time of meta.json as the target's clock has it."""
    when = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    since = when - datetime.datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000 - now


@each(minor=["3.13"])
def test_triggers(t, minor):
    """All causes in one capture, or few; then where the threads stand; then a crash."""
    appears = t.path("appears")
    wanted = ["slow:slow_call:200ms", "exception:Flight*", "gc:1ns", "gil:1ns", "signal:USR1",
              "file:" + appears, "memory:host:56M", "hang:1s", "cuda:cudaDeviceSync*:10ms",
              "cuda-error", "memory:device:64M"]
    never = ["slow:inner:1h", "slow:nobody:1ns", "exception:OtherError", "gc:1h", "gil:1h",
             "file:" + t.path("never"), "cuda:cudaDeviceSync*:1h", "cuda:nobody:1ns",
             "memory:host:100G", "memory:device:80M"]
    later = ["signal:USR2", "crash", "exit"]
    options = [word for text in wanted + never + later for word in ("--on", text)]
    r = Recorder(t, minor, *options, "--last", "20s", "--after", "1s", "--cool-down", "1h",
                 CUDA_LIB=cuda_double(t))
    r.do(b"g", b"l", b"e", b"m", b"d", b"f", b"v", b"s")
    r.tool.popen.send_signal(signal.SIGUSR1)
    open(appears, "w").close()
    fired = {}  # trigger: the capture that it made, or has a part in
    while len(fired) < len(wanted):
        got = r.captured()
        for cause in got.causes():
            t.check(cause in wanted and cause not in fired, "fired: %s", cause)
            fired[cause] = got
        print("still to fire:", set(wanted) - set(fired))
    # the cause is there: the slow call, with what it called in it
    (slow,) = fired["slow:slow_call:200ms"].trace.named("slow_call")
    t.equal([short(c) for c in slow.children if type(c) is trace.Slice], ["slow_part"],
            "what slow_call() called")
    t.check(slow.end - slow.begin > 200 * 10**6, "slow_call() took %d ns", slow.end - slow.begin)
    marks = [e["name"] for e in fired["exception:Flight*"].trace.events
             if e["ph"] == "i" and e["cat"] == "exception"]
    t.check("FlightError" in marks, "no FlightError in %s", marks)
    cuda = [s for s in fired["cuda:cudaDeviceSync*:10ms"].trace.spans
            if s.name == "cudaDeviceSynchronize"]
    t.equal([s.parent.name.rpartition(": ")[2] for s in cuda], ["wait_for_device"], "who waited")
    t.check(cuda[0].end - cuda[0].begin >= 30 * 10**6, "it took %d ns", cuda[0].end - cuda[0].begin)
    wrong = [e for e in fired["cuda-error"].trace.events
             if e["ph"] == "i" and e["cat"] == "cuda_error"]
    t.equal([(e["name"], e["args"]["function"]) for e in wrong],
            [("cudaErrorMemoryAllocation", "cudaMalloc")], "what failed")
    t.has(fired["memory:device:64M"].text("stacks.txt"), "has 81.8 MB on device")
    # a call that has run for a second is seen, also if it is the last thing that its thread did
    r.target.rests()
    time.sleep(1.1)
    r.tool.popen.send_signal(signal.SIGUSR2)
    t.has(r.captured().text("stacks.txt"), "innermost call first\n  wait_here (", "  main (")
    r.target.send(b"c")
    r.target.popen.wait(process.WAIT_S)
    code = r.tool.wait()
    t.equal(code, 0, "exit code")
    crash = r.captured()
    t.equal(set(crash.causes()), {"crash", "exit"}, "causes of the crash")
    t.has(crash.text("stacks.txt"), "crash (", "signal 11")
    print("%d captures" % len(os.listdir(r.folder)))


@each(minor=["3.8"])
def test_window(t, minor):
    """A capture for which there is no room is one clear error, and recording goes on. In the next one
    the last calls are those that the program knows of, in order, each whole."""
    folder = t.path("small")
    os.mkdir(folder)
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder]):
        raise Skip("no tmpfs can be mounted")
    try:
        r = Recorder(t, minor, "--on", "signal:USR1", "--on", "signal:USR2", "--last", "1s",
                     "--format", "tar.gz", folder=folder)
        r.tool.popen.send_signal(signal.SIGUSR1)
        line = r.tool.err.wait("error", "the recorder")
        t.has(line, "no capture of 'signal:USR1'", "No space left", "recording goes on")
        t.equal(os.listdir(folder), [], "left behind")
        subprocess.check_call(["mount", "-o", "remount,size=16m", folder])
        offset = time.time_ns() - time.monotonic_ns()
        r.target.ask(b"n", "counted")
        r.tool.popen.send_signal(signal.SIGUSR2)
        got = r.captured()
        r.tool.expect(1, stop=True)
    finally:
        subprocess.call(["umount", "-l", folder])
    r.target.send(b"qq")
    known = r.target.done()
    begin = mono_ns(got.meta["window begins"], offset)
    end = mono_ns(got.meta["window ends"], offset)
    inside = ["call_%d" % n for n, b, e in known if b > begin + MARGIN_NS and e < end - MARGIN_NS]
    touched = ["call_%d" % n for n, b, e in known if e > begin - MARGIN_NS]
    calls = sorted(((s.begin, s) for roots in got.trace.threads.values() for root in roots
                    for s in root.walk() if short(s).startswith("call_")), key=lambda c: c[0])
    names = [short(s) for _, s in calls]
    t.check(len(inside) > 20, "only %d calls are certain", len(inside))
    t.check(",".join(inside) in ",".join(names) and ",".join(names) in ",".join(touched),
            "the program made %d to %d calls, %s to %s; captured are %d, %s to %s", len(inside),
            len(touched), touched[0], touched[-1], len(names), names[0], names[-1])
    for _, s in calls[1:-1]:
        t.equal([short(c) for c in s.children], ["inner"], "what %s called" % s.name)
    print("%d calls" % len(names))


def test_bad_input(t):
    """What cannot be a trigger, or be written to, is told before anything is attached."""
    for options, text in ((["--on", "slower:f:1s"], "no such trigger"),
                          (["--on", "slow:f"], "needs a name and a time"),
                          (["--on", "gc:1h", "--no-gc"], "exclude"),
                          ([], "needs a trigger"),
                          (["--on", "crash", "--last", "0"], "--last"),
                          (["--on", "crash", "--window-memory", "1K"], "--window-memory"),
                          (["--on", "crash", "--start-on", "f"], "does not belong")):
        _, err = process.run_tool("capture", "-p", os.getpid(), *options, code=2)
        t.has(err, text)
    with open(t.path("file"), "w"):
        pass
    interp = interpreters.one()
    target = process.Target(interp, "flight", command=process.script(interp, "flight.py"))
    _, err = process.run_tool("capture", "-p", target.pid, "--on", "crash", "-o", t.path("file"),
                              code=2)
    t.has(err, "no folder")
    target.finish()
