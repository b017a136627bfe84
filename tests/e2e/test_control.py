# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Controlling a recording while it runs: by signals, by the control socket, by ctl."""
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import time

from harness import interpreters, process, trace
from harness.runner import each, limit

MINORS = ["3.8", "3.11", "3.12", "3.14"]


def monotonic_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Control:
    """A recorder with a control socket, and its target."""

    def __init__(self, t, program, *args, name="trace.json", minor=None, options=()):
        self.t, self.path, self.socket = t, t.path(name), t.path("control")
        interp = interpreters.one(minor)
        self.target = process.Target(interp, program,
                                     command=process.script(interp, program + ".py", *args))
        self.tracer = process.Tracer("-p", self.target.pid, "-o", self.path, "--control",
                                     self.socket, *options)
        self.tracer.recording()

    def ctl(self, *args, code=0):
        out, err = process.run_tool("ctl", "--socket", self.socket, *args, code=code,
                                    cwd=self.t.folder)
        return json.loads(out) if code == 0 else err

    def stage(self, n):
        """Until the target waits for what comes next."""
        self.target.go()
        self.target.out.wait("stage %d" % n, "the target")
        self.target.rests()

    def begin(self):
        self.target.go()
        self.target.out.wait("begun", "the target")
        self.target.rests()

    def save(self, *file):
        """A copy has what is older than a millisecond (user/record/commands.c)."""
        time.sleep(0.002)
        return self.ctl("save", *file)

    def calls(self, more=None):
        """Of paused.py: how many calls have ended so far; or until so many more have, too."""
        if more:
            least = self.calls() + more
            process.wait_until(lambda: self.calls() >= least, "%d calls" % least)
        return int(self.target.ask(b"n", "calls").split()[1])

    def ended_calls(self):
        """Of paused.py: it ends, and what it called."""
        self.target.send(b"q")
        logs = self.target.done()
        self.target.finish()
        return logs

    def end(self):
        self.target.finish()
        self.tracer.expect(0)
        self.t.check(not os.path.exists(self.socket), "the socket is still there")
        return trace.load(self.path)


def flags(s):
    return {k for k in s.args if not k.startswith("Python") and k != "CallFrom"}


def stages_of(got):
    counts = got.counts()
    return {n: counts.get("stage_%d" % n, 0) for n in (1, 2, 3, 4)}, counts.get("leaf", 0)


def summary(got):
    return got.document["pytrace-bpf summary"]


@limit(180)
@each(minor=MINORS)
def test_pause_exact(t, minor):
    """Every call of three busy threads, by the program's own clock: outside of the pauses it is there
    whole; open through a pause it stays one slice; what begins or ends within one says so."""
    options = ("--lines", "--c-functions=all") if minor in ("3.11", "3.14") else ()
    control = Control(t, "paused", minor=minor, name="trace.ptcap", options=options)
    control.target.ask(b"x", "calls")
    pauses = []
    for i in range(14):
        control.calls(more=40)
        control.target.ask(b"h", "calls")
        sent = monotonic_ns()
        control.ctl("pause")
        closed = monotonic_ns()
        control.calls(more=30)
        if i % 2:
            control.target.ask(b"h", "calls")
        opening = monotonic_ns()
        control.ctl("resume")
        pauses.append((sent, closed, opening, monotonic_ns()))
    control.calls(more=40)
    logs = control.ended_calls()
    control.tracer.expect(0)
    process.run_tool("replay", control.path, "-o", t.path("trace.json"))
    got = trace.load(t.path("trace.json"))
    for name in ("lost events", "lost records", "damaged records", "stack jumps"):
        t.equal(summary(got)[name], 0, name)
    t.equal(summary(got)["pauses"], len(pauses), "pauses")
    check_pauses(t, got, logs, pauses, offset_ns(control.path))
    marks = [e["name"] for e in got.events if e["ph"] == "i" and e["cat"] == "control"]
    t.equal(marks, ["recording paused", "recording resumed"] * len(pauses), "marks")


def offset_ns(capture):
    """What to add to CLOCK_MONOTONIC to have the times of the trace, exactly: from the capture's
    header, as user/sink/chrome.c takes it."""
    with open(capture, "rb") as file:
        mono, real = struct.unpack_from("<QQ", file.read(64), 24)
    return real % (7889238 * 10**9) - mono


def check_pauses(t, got, logs, pauses, offset):
    def outside(a, b):
        return not any(a <= last and b >= first for first, _, _, last in pauses)

    def inside(a, b):
        return any(a >= closed and b <= opening for _, closed, opening, _ in pauses)

    by_tid = {tid: roots for (_, tid), roots in got.threads.items()}
    seen = {"whole": 0, "through": 0, "begin": 0, "end": 0, "none": 0}
    for tid, calls in logs.items():
        slices = {}
        for root in by_tid[int(tid)]:
            for s in root.walk():
                slices.setdefault(s.name.rpartition(".")[2], []).append(s)
        for name, before, begin, end, after in calls:
            entered, left = outside(before, begin), outside(end, after)
            mine = [s for s in slices.get(name, ())
                    if s.begin <= begin + offset <= s.end or s.begin <= end + offset <= s.end]
            if entered and left:
                t.equal(len(mine), 1, "slices of %s [%d, %d]" % (name, begin, end))
                t.equal(flags(mine[0]), set(), "marks of %s" % name)
                t.check(mine[0].begin <= begin + offset and end + offset <= mine[0].end,
                        "%s is cut", name)
                through = any(begin <= closed and opening <= end
                              for _, closed, opening, _ in pauses)
                seen["through" if through else "whole"] += 1
            elif entered and inside(end, after):
                t.equal([flags(s) for s in mine], [{"end paused"}], "marks of %s" % name)
                seen["end"] += 1
            elif inside(before, begin) and left:
                t.equal([flags(s) for s in mine], [{"begin paused"}], "marks of %s" % name)
                seen["begin"] += 1
            elif inside(before, after):
                t.equal(len(mine), 0, "slices of %s within a pause" % name)
                seen["none"] += 1
    for what, least in (("whole", 150), ("through", 7), ("begin", 7), ("end", 7), ("none", 20)):
        t.check(seen[what] >= least, "only %d calls of the kind '%s'", seen[what], what)
    print("%(whole)d calls whole, %(through)d through a pause, %(begin)d and %(end)d cut, "
          "%(none)d hidden" % seen)



def check_stages(t, got, expected, leaves):
    t.equal(stages_of(got), ({n: expected.count(n) for n in (1, 2, 3, 4)}, leaves), "calls")
    for name in ("lost events", "lost records", "damaged records", "stack jumps"):
        t.equal(summary(got)[name], 0, name)


@each(minor=MINORS)
def test_pause_hides(t, minor):
    """What is called while paused is not there, and open calls are whole."""
    control = Control(t, "stages", minor=minor)
    control.begin()
    control.stage(1)
    t.equal(control.ctl("pause")["state"], "paused", "state")
    control.stage(2)
    t.equal(control.ctl("status")["state"], "paused", "state")
    t.equal(control.ctl("pause")["state"], "paused", "state")
    t.equal(control.ctl("resume")["state"], "recording", "state")
    control.stage(3)
    control.ctl("pause")
    control.stage(4)
    got = control.end()
    check_stages(t, got, [1, 3], 4)
    t.equal([flags(s) for s in got.named("open_call")], [{"end paused"}], "marks of open_call()")
    t.equal(summary(got)["pauses"], 2, "pauses")


@each(minor=MINORS)
def test_pause_life(t, minor):
    """Code objects are freed in a pause and others take their addresses; threads and children begin
    and end in it."""
    control = Control(t, "life", minor=minor, options=("--follow", "exact"))
    control.stage(1)
    control.ctl("pause")
    control.stage(2)
    control.ctl("resume")
    control.stage(3)
    got = control.end()
    counts = got.counts()
    for name in ("old", "new"):
        t.equal([counts.get("%s_%d" % (name, i)) for i in range(200)], [1] * 200, "calls")
    for name, expected in (("stage_1", set()), ("stage_3", set()), ("main", None),
                           ("ends_in_pause", {"end paused"}), ("after_pause", set()),
                           ("begins_in_pause", {"begin paused"}), ("child_after_pause", set()),
                           ("child_begins", {"begin paused"})):
        mine = got.named(name)
        t.equal(len(mine), 1 + (name == "main"), "slices of %s" % name)
        if expected is not None:
            t.equal(flags(mine[0]), expected, "marks of %s" % name)
    t.equal(counts.get("stage_2"), 1, "slices of stage_2: the child's")
    for name in ("lost events", "lost records", "damaged records", "stack jumps",
                 "unknown code objects"):
        t.equal(summary(got)[name], 0, name)


@each(minor=MINORS)
def test_pause_c(t, minor):
    """A C function through a pause in which what it calls ends and begins; one that ends in a pause,
    and one at the same place that begins there."""
    control = Control(t, "pausedc", minor=minor, options=("--c-functions=sorted", "--lines"))
    for n, command in ((1, None), (2, "pause"), (3, "resume"), (4, None), (5, "pause"),
                       (6, "resume"), (7, None)):
        control.stage(n)
        if command:
            control.ctl(command)
    got = control.end()
    outer = got.named("outer")[0]
    name = "<built-in function sorted>"
    t.equal([(s.name, flags(s)) for s in outer.children],
            [(name, set()), (name, {"end paused"}), ("key", {"begin paused"}), (name, set())],
            "what outer() called")
    t.equal([[(s.name, flags(s)) for s in c.children] for c in outer.children],
            [[("key", set()), ("key", {"end paused"}), ("key", {"begin paused"}), ("key", set())],
             [("key", {"end paused"})], [("leaf", set())], [("key", set())]], "what sorted() called")
    for name in ("lost events", "lost records", "damaged records", "stack jumps"):
        t.equal(summary(got)[name], 0, name)


@each(minor=["3.8", "3.12"])
def test_pause_c_alone(t, minor):
    """C functions that a pause begins or ends in, and that nothing lies on."""
    control = Control(t, "stages", minor=minor, options=("--c-functions=os.read,posix.read",))
    control.begin()
    control.stage(1)
    control.ctl("pause")
    control.stage(2)
    control.ctl("resume")
    control.stage(3)
    control.ctl("pause")
    control.ctl("resume")
    control.stage(4)
    got = control.end()
    reads = got.named("<built-in function read>")
    inner = [s for s in got.named("open_call")[0].children if s in reads]
    # the third one began in the pause
    t.equal([flags(s) for s in inner], [set(), {"end paused"}, set(), set()], "marks of read()")
    check_stages(t, got, [1, 3, 4], 8)


def test_signals(t):
    """SIGUSR1 pauses and resumes, SIGUSR2 saves; SIGTERM ends as ever."""
    control = Control(t, "stages")
    control.begin()
    control.stage(1)
    control.tracer.popen.send_signal(signal.SIGUSR1)
    control.tracer.err.wait("paused", "the recorder")
    control.stage(2)
    control.tracer.popen.send_signal(signal.SIGUSR1)
    control.tracer.err.wait("resumed", "the recorder")
    control.stage(3)
    time.sleep(0.002)
    control.tracer.popen.send_signal(signal.SIGUSR2)
    control.tracer.err.wait("saved", "the recorder")
    control.tracer.popen.send_signal(signal.SIGTERM)
    control.tracer.expect(0)
    t.check(not os.path.exists(control.socket), "the socket is still there")
    for name in ("trace-1.json", "trace.json"):
        check_stages(t, trace.load(t.path(name)), [1, 3], 4)
    t.equal(control.target.finish(), 0, "exit status of the target")


@each(name=["trace.json", "trace.json.gz", "trace.ptcap"])
def test_save(t, name):
    """A copy is a whole trace of what was until then; the recording goes on."""
    control = Control(t, "stages", name=name)
    control.begin()
    copies = []
    for n in (1, 2, 3):
        control.stage(n)
        file = "copy%d%s" % (n, name[5:])
        answer = control.save(file)
        t.equal(answer["file"], t.path(file), "the copy's name")
        t.equal(answer["file_bytes"], os.path.getsize(t.path(file)), "the copy's size")
        copies.append(file)
    control.stage(4)
    control.target.finish()
    control.tracer.expect(0)
    for n, file in enumerate(copies + [name], 1):
        path = t.path(file)
        if name.endswith("ptcap"):
            process.run_tool("replay", path, "-o", t.path("x.json"))
            path = t.path("x.json")
        got = trace.load(path)
        check_stages(t, got, list(range(1, n + 1)), sum(range(n + 1)))
        opened = set() if n == 4 else {"open at end"}
        t.equal([flags(s) for s in got.named("open_call")], [opened], "marks of open_call()")
    t.check(not [f for f in os.listdir(t.folder) if ".tmp" in f], "files: %s", os.listdir(t.folder))


def test_save_under_load(t):
    """Copies of a busy recording: each is valid and has at least what the one before had."""
    control = Control(t, "spin", "2", name="trace.json.gz")
    names = ["copy1.json.gz", "copy2.json.gz", "copy3.json.gz"]
    for n, name in enumerate(names, 1):
        process.wait_until(lambda: control.ctl("status")["events"] > 1000 * n, "events")
        control.save(name)
    control.ctl("stop", "--flush-unfinished")
    control.tracer.expect(0)
    control.target.kill()
    counts = []
    for name in names + ["trace.json.gz"]:
        out, _ = process.run_tool("report", t.path(name), "--json")
        counts.append(json.loads(out)["calls"])
    t.check(counts == sorted(counts) and counts[0] > 100, "slices: %s", counts)
    got = trace.load(t.path(names[0]))
    t.equal(got.count, counts[0], "slices of the first copy")
    t.equal(got.document["traceName"], t.path(names[0]), "traceName")
    print("slices: %s" % counts)


@each(name=["trace.json", "trace.json.gz", "trace.ptcap"])
def test_clear(t, name):
    """The trace starts anew: nothing of before, and open calls begin at its start."""
    control = Control(t, "stages", name=name)
    control.begin()
    control.stage(1)
    control.stage(2)
    control.ctl("clear")
    control.stage(3)
    control.save("copy" + name[5:])
    control.target.finish()
    control.tracer.expect(0)
    for file in (name, "copy" + name[5:]):
        path = t.path(file)
        if name.endswith("ptcap"):
            process.run_tool("replay", path, "-o", t.path("x.json"))
            path = t.path("x.json")
        got = trace.load(path)
        check_stages(t, got, [3], 3)
        opened = {"open at start"} | ({"open at end"} if file != name else set())
        t.equal([flags(s) for s in got.named("open_call")], [opened], "marks of open_call()")


@each(minor=["3.13"])
def test_clear_exact(t, minor):
    """Of three busy threads: calls that ended before are gone, later ones are there, and those in
    between are open at the start."""
    control = Control(t, "paused", minor=minor, name="trace.ptcap")
    control.target.ask(b"x", "calls")
    control.calls(more=200)
    sent = monotonic_ns()
    control.ctl("clear")
    done = monotonic_ns()
    control.calls(more=200)
    logs = control.ended_calls()
    control.tracer.expect(0)
    process.run_tool("replay", control.path, "-o", t.path("trace.json"))
    got, offset = trace.load(t.path("trace.json")), offset_ns(control.path)
    by_tid = {tid: roots for (_, tid), roots in got.threads.items()}
    seen = {"gone": 0, "open": 0, "whole": 0}
    for tid, calls in logs.items():
        slices = {}
        for root in by_tid[int(tid)]:
            for s in root.walk():
                slices.setdefault(s.name.rpartition(".")[2], []).append(s)
        for name, before, begin, end, after in calls:
            mine = [s for s in slices.get(name, ()) if s.begin <= end + offset <= s.end]
            if after < sent:
                t.equal(len(mine), 0, "slices of %s before the clear" % name)
                seen["gone"] += 1
            elif begin < sent and end > done:
                t.equal([flags(s) for s in mine], [{"open at start"}], "marks of %s" % name)
                seen["open"] += 1
            elif before > done:
                t.equal([flags(s) for s in mine], [set()], "marks of %s" % name)
                seen["whole"] += 1
    for what, least in (("gone", 100), ("open", 1), ("whole", 100)):
        t.check(seen[what] >= least, "only %d calls of the kind '%s'", seen[what], what)


def test_dialect(t):
    """Copies and clears in the other dialect, with the sources of what is in the trace."""
    control = Control(t, "stages", options=("--dialect", "viztracer", "--file-info"))
    control.begin()
    control.stage(1)
    control.save("one.json")
    control.ctl("clear")
    control.stage(2)
    control.save("two.json")
    control.target.finish()
    control.tracer.expect(0)
    for name, stage in (("one.json", 1), ("two.json", 2), ("trace.json", 2)):
        with open(t.path(name)) as file:
            document = json.load(file)
        names = {e["name"] for e in document["traceEvents"] if e["ph"] == "X"}
        own = {n for n in names if "stages.py" in n}
        t.equal({n.split()[0] for n in own if "stage_" in n}, {"stage_%d" % stage}, "calls")
        t.check("viztracer_metadata" in document, "%s: no metadata", name)
        t.check(own <= set(document["file_info"]["functions"]) <= names, "%s: functions %s of %s",
                name, document["file_info"]["functions"], names)
        t.check(any(f.endswith("stages.py") for f in document["file_info"]["files"]), "no source")


def test_one_file_a_process(t):
    """Several files are neither copied nor cleared; a capture with a clear in it becomes several."""
    control = Control(t, "stages", name="trace-%p.json")
    control.begin()
    for command in (("save",), ("save", "x.json"), ("clear",)):
        t.has(control.ctl(*command, code=2), "one file a process")
    control.ctl("pause")
    control.ctl("resume")
    control.ctl("stop")
    control.tracer.expect(0)
    trace.load(t.path("trace-%d.json" % control.target.pid))
    control.target.kill()
    control = Control(t, "stages", name="x.ptcap")
    control.begin()
    control.stage(1)
    control.ctl("clear")
    control.stage(2)
    control.target.finish()
    control.tracer.expect(0)
    process.run_tool("replay", control.path, "-o", t.path("y-%p.json"))
    got = trace.load(t.path("y-%d.json" % control.target.pid))
    t.equal(stages_of(got), ({1: 0, 2: 1, 3: 0, 4: 0}, 2), "calls")


@each(flush=[False, True])
def test_stop(t, flush):
    """stop ends the recording; calls that are still running are left out unless asked for."""
    control = Control(t, "stages")
    control.begin()
    control.stage(1)
    control.stage(2)
    answer = control.ctl("stop", *(["--flush-unfinished"] if flush else []))
    t.equal((answer["state"], answer["file"]), ("stopped", control.path), "answer")
    got = trace.load(control.path)  # it is there when the answer comes
    control.tracer.expect(0)
    check_stages(t, got, [1, 2], 3)
    t.equal([flags(s) for s in got.named("open_call")], [{"open at end"}] if flush else [],
            "marks of open_call()")
    control.stage(3)
    t.equal(control.target.finish(), 0, "exit status of the target")


def test_stop_launched(t):
    """A launched command goes on after stop, and its exit status is ours."""
    interp = interpreters.one()
    control = t.path("control")
    tracer = process.Tracer("-o", t.path("trace.json"), "--control", control, "--",
                            *interp.command("-c", "import os, sys; os.write(1, b'up\\n'); "
                                            "os.read(0, 1); sys.exit(7)"), stdin=subprocess.PIPE)
    tracer.out.wait("up", "the command")
    process.run_tool("ctl", "--socket", control, "stop")
    trace.load(t.path("trace.json"))
    t.equal(tracer.popen.poll(), None, "the recorder waits for the command")
    tracer.popen.stdin.write(b"x")
    tracer.popen.stdin.flush()
    tracer.expect(7)


# ---- bad input ----

def talk(path, data, limit_s=process.WAIT_S):
    """Says data; what comes back until the other side closes, or a whole line."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(limit_s)
        s.connect(path)
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        while not answer.endswith(b"\n"):
            piece = s.recv(65536)
            if not piece:
                break
            answer += piece
    return json.loads(answer) if answer else None


def test_socket_mode(t):
    control = Control(t, "stages")
    mode = os.stat(control.socket)
    t.equal((stat.S_IMODE(mode.st_mode), stat.S_ISSOCK(mode.st_mode)), (0o600, True), "its mode")
    control.ctl("stop")
    control.tracer.expect(0)
    t.check(not os.path.exists(control.socket), "the socket is still there")


def test_bad_lines(t):
    """Each gets one error, and none disturbs the recording."""
    control = Control(t, "stages")
    control.begin()
    for data, code in ((b"\n", 2), (b"dance\n", 2), (b"pause now\n", 2), (b"stop now\n", 2),
                       (b"\xff\xfe\x01\x1b[2J\n", 2), (b"pau\0se\n", 2), (b"x" * 20000, 2),
                       (b"x" * 20000 + b"\n", 2), (b"save /no/such/folder/x.json\n", 1),
                       (b"save x.txt\n", 2), (b"save x.json.gz\n", 2), (b"save /\n", 2),
                       (b"save " + b"y" * 5000 + b".json\n", 2),
                       (b"save " + control.path.encode() + b"\n", 2)):
        answer = talk(control.socket, data)
        t.check(answer and answer["ok"] is False, "the answer to %r is %s", data[:40], answer)
        t.equal(answer["exit_code"], code, "exit code for %r: %s" % (data[:40], answer["error"]))
        t.check("\x1b" not in answer["error"], "control characters come back")
    answer = talk(control.socket, b"status\r\n")
    t.equal(answer["state"], "recording", "state")
    control.stage(1)
    check_stages(t, control.end(), [1], 1)


def test_hanging_clients(t):
    """Clients that say nothing, or half a line, or take no answer, hold up nobody."""
    control = Control(t, "stages")
    control.begin()
    silent = []
    for data in (b"", b"sta", b"status\n" * 1000, b"pause\nresume\n"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(control.socket)
        s.sendall(data)
        silent.append(s)
    def both_done():
        answer = control.ctl("status")
        return answer["pauses"] == 1 and answer["state"] == "recording"

    process.wait_until(both_done, "the pause and its end")
    control.stage(1)
    for s in silent:
        s.close()
    for _ in range(3):
        t.equal(control.ctl("status")["state"], "recording", "state")
    check_stages(t, control.end(), [1], 1)


def test_many_clients(t):
    """More than eight at once: the others are told so; when they have gone all is well."""
    control = Control(t, "stages")
    held = []
    for _ in range(8):
        s = socket.socket(socket.AF_UNIX)
        s.connect(control.socket)
        held.append(s)
    process.wait_until(lambda: (talk(control.socket, b"status\n") or {}).get("ok") is False,
                       "a refusal")
    for s in held:
        s.close()
    process.wait_until(lambda: (talk(control.socket, b"status\n") or {}).get("ok"), "an answer")
    control.ctl("stop")
    control.tracer.expect(0)
    control.target.kill()


def test_other_user(t):
    """Another user is refused, also where the socket's mode would let him through."""
    control = Control(t, "stages")
    os.chmod(t.folder, 0o755)
    tool = t.path("pytrace-bpf")
    process.shutil.copy2(process.TOOL, tool)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", tool, "ctl",
               "--socket", control.socket, "pause"]
    for mode in (0o600, 0o666):
        os.chmod(control.socket, mode)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              universal_newlines=True)
        t.equal(done.returncode, 3, "exit code (%s)" % done.stderr)
    t.has(done.stderr, "only root")
    t.equal(control.ctl("status")["pauses"], 0, "pauses")
    control.ctl("stop")
    control.tracer.expect(0)
    control.target.kill()


def test_stale_socket(t):
    """What a killed recorder leaves is replaced; one that is alive is not."""
    control = Control(t, "stages")
    other = ("-p", control.target.pid, "-d", "100ms", "--control", control.socket, "-o")
    _, err = process.run_tool(*other, t.path("x.json"), code=1)
    t.has(err, "another program listens", control.socket)
    t.equal(control.ctl("status")["ok"], True, "the first still answers")
    control.tracer.popen.kill()
    control.tracer.wait()
    t.check(os.path.exists(control.socket), "there is no stale socket to replace")
    err = control.ctl("status", code=4)
    t.has(err, "no recorder listens")
    process.run_tool(*other, t.path("y.json"))
    t.check(not os.path.exists(control.socket), "the socket is still there")
    control.target.kill()


def test_bad_paths(t):
    """Refused before anything is attached."""
    target = process.Target(interpreters.one(), "churn", "3")
    before = process.text_of(target.pid)
    with open(t.path("file"), "w") as file:
        file.write("mine")
    os.mkdir(t.path("folder"))
    for path, code, text in ((t.path("x" * 120), 2, "at most 107 bytes"),
                             (t.path("file"), 2, "is no socket"),
                             (t.path("folder"), 2, "is no socket"),
                             ("/no/such/folder/x", 1, "No such file"),
                             ("/proc/x", 1, "cannot make")):
        _, err = process.run_tool("-p", target.pid, "-d", "100ms", "-o", t.path("x.json"),
                                  "--control", path, code=code)
        t.has(err, text)
        t.check(not os.path.exists(t.path("x.json")), "there is a trace")
    with open(t.path("file")) as file:
        t.equal(file.read(), "mine", "the file in the way")
    t.equal(process.text_differences(before, process.text_of(target.pid)), 0, "bytes that differ")
    target.kill()


def test_ctl_usage(t):
    for args, code, text in ((("ctl",), 2, "needs a command"), (("ctl", "dance"), 2, "dance"),
                             (("ctl", "pause", "x"), 2, "too many"),
                             (("ctl", "save", "a", "b"), 2, "too many"),
                             (("ctl", "save", ""), 2, "empty"),
                             (("ctl", "save", "a\nb"), 2, "line break"),
                             (("ctl", "pause", "--flush-unfinished"), 2, "goes with"),
                             (("ctl", "--socket", "/" + "x" * 200, "status"), 2, "107"),
                             (("ctl", "--socket", t.path("none"), "status"), 4, "no recorder"),
                             (("ctl", "-p", "1", "status"), 2, "does not belong")):
        _, err = process.run_tool(*args, code=code)
        t.has(err, text)
        t.equal(len([x for x in err.splitlines() if x.startswith("pytrace-bpf")]), 1, "errors")


def test_ctl_strange_server(t):
    """What is no recorder's answer is said to be none."""
    path = t.path("strange")
    for reply, text in ((b"hello\n", "no answer"), (b"", "no answer came"),
                        (b"{}\n", "no answer"), (b"[" * 70000, "no answer")):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            tracer = process.Tracer("ctl", "--socket", path, "status")
            client, _ = server.accept()
            try:
                client.sendall(reply)
            except (BrokenPipeError, ConnectionResetError):
                pass
            client.close()
            t.has(tracer.expect(1), text)
        os.unlink(path)


def test_stream_output(t):
    """A stream can be paused, but neither copied nor cleared."""
    control = t.path("control")
    target = process.Target(interpreters.one(), "stages",
                            command=process.script(interpreters.one(), "stages.py"))
    with open(t.path("out"), "wb") as out:
        tracer = process.Tracer("-p", target.pid, "-o", "-", "--control", control, stdout=out)
        tracer.recording()
        for command, code in (("save", 2), ("clear", 2), ("pause", 0), ("resume", 0), ("stop", 0)):
            process.run_tool("ctl", "--socket", control, command, code=code)
        tracer.expect(0)
    trace.load(t.path("out"))
    target.kill()


# ---- triggers ----

def triggered(t, minor, *options, program="triggers", stops=False):
    interp = interpreters.one(minor)
    target = process.Target(interp, program, command=process.script(interp, program + ".py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"), *options)
    tracer.recording()
    target.go()
    target.done()
    if stops:
        tracer.expect(0)
        target.finish()
    else:
        target.finish()
        tracer.expect(0)
    got = trace.load(t.path("trace.json"))
    for name in ("lost events", "lost records", "damaged records", "stack jumps",
                 "unknown code objects"):
        t.equal(summary(got)[name], 0, name)
    return got


def roots(got):
    return [root for roots in got.threads.values() for root in roots]


def bare_counts(got):
    counts = {}
    for s in got.slices():
        name = s.name.rpartition(".")[2]
        counts[name] = counts.get(name, 0) + 1
    return counts


@each(minor=MINORS)
def test_start_on(t, minor):
    """Only calls of the functions named, and what they call, whole and in order."""
    # of three threads with 20 rounds each; each fifth wanted() calls nested(), and that wanted()
    for glob, expected, leaves in (
            ("wanted", {"wanted": 72, "nested": 12, "leaf": 216}, 3),
            ("w?nt*", {"wanted": 72, "nested": 12, "leaf": 216}, 3),
            ("*nwant*d", {"unwanted": 61, "leaf": 122}, 2),
            ("fails", {"fails": 60, "leaf": 60}, 1),
            ("*method", {"method": 60, "leaf": 60}, 1),
            ("*g?n?r?_\u540d\u524d", {"g\u00e9n\u00e9r\u00e9_\u540d\u524d": 180, "leaf": 120}, None),
            ("*no such function*", {}, None)):
        if minor in ("3.11", "3.14") and glob not in ("wanted", "*method"):
            continue
        got = triggered(t, minor, "--start-on", glob)
        t.equal(bare_counts(got), expected, "calls with --start-on '%s'" % glob)
        for root in roots(got):
            t.equal(flags(root), set(), "marks of %s" % root.name)
            t.check(root.name.rpartition(".")[2] != "leaf", "leaf() is a root")
            if leaves:
                t.equal(sum(s.name == "leaf" for s in root.children), leaves,
                        "calls of leaf() in %s" % root.name)
    if minor != "3.8":
        got = triggered(t, minor, "--start-on", "Thing.__init__")
        t.equal(bare_counts(got), {"__init__": 60, "leaf": 60}, "calls in Thing.__init__")


@each(minor=["3.8", "3.12"])
def test_count(t, minor):
    """The first N calls, then the recording ends by itself."""
    got = triggered(t, minor, "--start-on", "unwanted", "--count", "17", stops=True)
    t.equal(got.counts(), {"unwanted": 17, "leaf": 34}, "calls")
    got = triggered(t, minor, "--start-on", "last", "--count", "1", stops=True)
    t.equal(got.counts(), {"last": 1, "leaf": 1}, "calls")


@each(minor=["3.8", "3.12"])
def test_stop_on(t, minor):
    """Nothing behind the return of the function named."""
    got = triggered(t, minor, "--stop-on", "last", stops=True)
    counts = bare_counts(got)
    t.equal([counts.get(name) for name in ("last", "unwanted", "wanted")], [1, 60, 72], "calls")
    t.equal([flags(s) for s in got.named("last")], [set()], "marks of last()")
    last, main = got.named("last")[0], got.named("main")[0]
    t.check(main.begin < last.begin and last.end < main.end, "main() ends too early")


def test_start_on_capture(t):
    """A capture holds only the calls that were wanted: the filter is in the kernel."""
    interp = interpreters.one()
    target = process.Target(interp, "triggers", command=process.script(interp, "triggers.py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("x.ptcap"), "--start-on", "last",
                            "--no-task-storage", "--no-cookie", "--no-uprobe-multi")
    tracer.recording()
    target.go()
    target.done()
    target.finish()
    text = tracer.expect(0)
    t.has(text, " 4 events")
    process.run_tool("replay", t.path("x.ptcap"), "-o", t.path("x.json"))
    t.equal(trace.load(t.path("x.json")).counts(), {"last": 1, "leaf": 1}, "calls")


def test_start_on_paused(t):
    """A window that opens before a pause and one that opens after it."""
    control = Control(t, "stages", options=("--start-on", "open_call"))
    control.begin()
    control.stage(1)
    control.ctl("pause")
    control.stage(2)
    control.ctl("resume")
    control.stage(3)
    got = control.end()
    check_stages(t, got, [1, 3], 4)
    t.equal([(r.name, flags(r)) for r in roots(got)], [("open_call", set())], "the outermost call")


def test_start_on_c(t):
    """C functions only within the calls that were wanted."""
    control = Control(t, "pausedc", options=("--start-on", "key", "--c-functions=all"))
    for n in range(1, 8):
        control.stage(n)
    got = control.end()
    t.equal([(r.name, [c.name for c in r.children]) for r in roots(got)],
            [("key", ["<built-in function write>", "<built-in function read>", "leaf"])] * 7, "calls")
    for name in ("lost events", "lost records", "damaged records", "stack jumps"):
        t.equal(summary(got)[name], 0, name)


def test_bad_globs(t):
    target = process.Target(interpreters.one(), "churn", "3")
    for option in ("--start-on", "--stop-on"):
        for glob, text in (("a[bc]", "no glob"), ("x" * 65, "more than 64"), ("a\\", "no glob"),
                           (b"\xff", "no glob"), ("", "not a valid")):
            done = subprocess.run([process.TOOL, "-p", str(target.pid), "-d", "1s", "-o",
                                   t.path("x.json"), option, glob], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=60)
            t.equal(done.returncode, 2, "exit code for %r" % glob)
            t.has(done.stderr.decode(errors="replace"), text)
    _, err = process.run_tool("-p", target.pid, "--count", "3", code=2)
    t.has(err, "--count goes with --start-on")
    target.kill()


# ---- short calls ----

@each(minor=["3.8", "3.12"])
def test_min_duration_exact(t, minor):
    """By the program's own clock: no call that is shorter is there, each longer one is, and hardly a
    short one has left the kernel."""
    limit_ns = 500_000
    control = Control(t, "paused", minor=minor, name="trace.ptcap",
                      options=("--min-duration", "500us"))
    control.target.ask(b"x", "calls")
    control.calls(more=2000)
    logs = control.ended_calls()
    control.tracer.expect(0)
    process.run_tool("replay", control.path, "-o", t.path("trace.json"), "--min-duration", "500us")
    process.run_tool("replay", control.path, "-o", t.path("all.json"))
    got, sent = trace.load(t.path("trace.json")), trace.load(t.path("all.json"))
    for name in ("lost events", "damaged records", "stack jumps", "unknown code objects"):
        t.equal(summary(sent)[name], 0, name)
    offset = offset_ns(control.path)
    short, long = set(), 0
    by_name = {}
    for (_, tid), roots in got.threads.items():
        for root in roots:
            for s in root.walk():
                by_name.setdefault((tid, s.name.rpartition(".")[2]), []).append(s)
    for tid, calls in logs.items():
        for name, before, begin, end, after in calls:
            mine = [s for s in by_name.get((int(tid), name), ())
                    if s.begin <= begin + offset and end + offset <= s.end]
            if end - begin >= limit_ns:
                t.equal([flags(s) for s in mine], [set()], "slices of %s" % name)
                long += 1
            elif after - before < limit_ns:
                t.equal(len(mine), 0, "slices of a short %s" % name)
                short.add((tid, begin))
    leaked = sent.count - got.count
    t.check(long > 50 and len(short) > 300, "%d long and %d short calls", long, len(short))
    t.check(leaked < len(short) / 10, "%d of %d short calls were sent", leaked, len(short))
    print("%d long calls, %d short ones, of which %d were sent" % (long, len(short), leaked))


def test_min_duration_sleeper(t):
    """Calls that began long ago are copied out while their thread sleeps, and are right at the end. The
    limit is one that no other call reaches, however long its thread waits for a CPU."""
    control = Control(t, "stages", options=("--min-duration", "900ms"))
    control.begin()
    control.stage(1)
    time.sleep(1.5)
    control.ctl("save", "copy.json")
    control.stage(2)
    got = control.end()
    t.equal(stages_of(got), ({1: 0, 2: 0, 3: 0, 4: 0}, 0), "calls")
    t.equal([flags(s) for s in got.named("open_call")], [set()], "marks of open_call()")
    t.equal(summary(got)["damaged records"], 0, "damaged records")
    trace.load(t.path("copy.json"))


@each(minor=["3.8", "3.11", "3.14"])
def test_min_duration_callforms(t, minor):
    """Every way to call, with a limit that some calls reach: the stream stays whole. A limit that all
    reach leaves out none. The lines of calls and C functions go with it."""
    interp = interpreters.one(minor)
    counts, lines = {}, {}
    for limit_text in ("0", "1ns", "15us"):
        target = process.Target(interp, "callforms")
        tracer = process.Tracer("-p", target.pid, "-o", t.path("x.ptcap"), "--min-duration",
                                limit_text, "--lines", "--c-functions=all")
        tracer.recording()
        target.go()
        target.done()
        target.finish()
        tracer.expect(0)
        process.run_tool("replay", t.path("x.ptcap"), "-o", t.path("x.json"))
        got = trace.load(t.path("x.json"))
        for name in ("lost events", "lost records", "damaged records", "stack jumps",
                     "unknown code objects"):
            t.equal(summary(got)[name], 0, name)
        counts[limit_text] = got.count
        lines[limit_text] = sorted((s.name, s.args.get("CallFrom", 0)) for s in got.slices())
    t.equal(counts["1ns"], counts["0"], "slices with 1ns")
    t.check(lines["1ns"] == lines["0"], "lines with 1ns")
    t.check(0 < counts["15us"] < counts["0"], "slices: %s", counts)
    odd = set(lines["15us"]) - set(lines["0"])
    t.check(not odd, "lines with 15us: %s", sorted(odd)[:5])
