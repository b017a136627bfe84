# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Bad input: one clear message with the remedy, the documented exit code, nothing left behind."""
import gzip
import os
import re
import signal
import struct
import subprocess
import time

from harness import interpreters, process, trace
from harness.runner import Skip, each, have

DONE, FAILED, USAGE, PERMISSION, NO_TARGET, UNSUPPORTED, LOST = range(7)


def refused(t, *args, code, says=(), **kwargs):
    """The tool refuses: exit code, the words, a hint, and not a page of text."""
    _, err = process.run_tool(*args, code=code, **kwargs)
    t.has(err, "pytrace-bpf", *says)
    t.check(len(err.splitlines()) <= 6, "more than six lines:\n%s", err)
    return err


def sleeping():
    return subprocess.Popen(["sleep", "60"])


USAGE_ERRORS = {
    "nothing": ([], []),
    "unknown option": (["--no-such-option"], ["no-such-option"]),
    "unknown verb": (["recrod"], ["recrod"]),
    "pid is no number": (["-p", "abc"], ["abc"]),
    "pid is negative": (["-p", "-5"], ["-5"]),
    "pid is empty": (["-p", ""], []),
    "pid list with a hole": (["-p", "1,,2"], []),
    "pid and command": (["-p", "1", "--", "true"], []),
    "pid and all": (["-p", "1", "-a"], []),
    "time without number": (["-p", "1", "-d", "soon"], ["soon"]),
    "time with a wrong unit": (["-p", "1", "-d", "5parsecs"], ["5parsecs"]),
    "unknown engine": (["-p", "1", "--engine", "steam"], ["steam"]),
    "unknown follow": (["-p", "1", "--follow=sometimes"], ["sometimes"]),
    "unknown CUDA functions": (["-p", "1", "--cuda", "fast"], ["fast"]),
    "size without number": (["-p", "1", "--buffer", "big"], ["big"]),
    "size too large": (["-p", "1", "--buffer", "99999999999G"], []),
    "unknown suffix": (["-p", "1", "-o", "trace.pdf"], ["trace.pdf"]),
    "events without number": (["-p", "1", "--max-events", "many"], ["many"]),
    "replay without file": (["replay"], []),
    "replay without output": (["replay", "x.ptcap"], []),
    "report without file": (["report"], []),
}


@each(case=sorted(USAGE_ERRORS))
def test_usage(t, case):
    args, words = USAGE_ERRORS[case]
    refused(t, *args, code=USAGE, says=words, cwd=t.folder)
    t.equal(os.listdir(t.folder), ["log"], "files")


def test_no_such_process(t):
    child = subprocess.Popen(["true"])
    child.wait()
    refused(t, "-p", child.pid, "-o", t.path("trace.json"), code=NO_TARGET, says=[str(child.pid)])
    t.equal(os.listdir(t.folder), ["log"], "files")


def test_pid_that_cannot_be(t):
    refused(t, "-p", "999999999", "-o", t.path("trace.json"), code=NO_TARGET, says=["999999999"])


def test_not_python(t):
    child = sleeping()
    refused(t, "-p", child.pid, "-o", t.path("trace.json"), code=NO_TARGET,
            says=[str(child.pid), "python"])
    child.kill()
    t.equal(os.listdir(t.folder), ["log"], "files")


def test_one_of_two_is_not_python(t):
    child = sleeping()
    target = process.Target(interpreters.one(), "churn", "3")
    refused(t, "-p", "%d,%d" % (target.pid, child.pid), "-o", t.path("trace.json"), code=NO_TARGET,
            says=[str(child.pid)])
    child.kill()


def test_kernel_thread(t):
    refused(t, "-p", "2", "-o", t.path("trace.json"), code=NO_TARGET, says=["2"])


def test_zombie(t):
    child = subprocess.Popen(["true"])
    process.wait_until(lambda: open("/proc/%d/stat" % child.pid).read().split()[2] == "Z", "a zombie")
    refused(t, "-p", child.pid, "-o", t.path("trace.json"), code=NO_TARGET,
            says=[str(child.pid), "has ended"])


def test_command_not_there(t):
    code = refused_code(t, "-o", t.path("trace.json"), "--", "/no/such/command")
    t.check(code in (FAILED, NO_TARGET, 127), "exit code %d", code)


def refused_code(t, *args):
    tracer = process.Tracer(*args)
    code = tracer.wait()
    t.has(tracer.err.text(), "/no/such/command")
    return code


def test_command_is_not_python(t):
    """Nothing to trace is said, and the command runs all the same."""
    tracer = process.Tracer("-o", t.path("trace.json"), "--", "sh", "-c", "echo ran; exit 3")
    code = tracer.wait()
    t.has(tracer.out.text(), "ran")
    t.has(tracer.err.text(), "python")
    t.equal(code, 3, "exit code")


@each(minor=["3.6", "3.7"])
def test_old_version(t, minor):
    paths = [p for p in _pyenv(minor) if os.access(p, os.X_OK)]
    if not paths:
        raise Skip("no Python %s on this machine" % minor)
    target = subprocess.Popen([paths[0], "-c", "import time; print('up', flush=True); time.sleep(60)"],
                              stdout=subprocess.PIPE)
    target.stdout.readline()
    refused(t, "-p", target.pid, "-o", t.path("trace.json"), code=UNSUPPORTED,
            says=[minor, "3.8"])


def _pyenv(minor):
    import glob
    for home in interpreters._homes():
        yield from glob.glob(os.path.join(home, ".pyenv/versions/%s.*/bin/python3" % minor))


def symbol(path, name):
    """(file offset, size) of a symbol of .dynsym, or None."""
    out = subprocess.run(["readelf", "-W", "--dyn-syms", path], stdout=subprocess.PIPE, check=True,
                         universal_newlines=True).stdout
    address = size = None
    for line in out.splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[7].split("@")[0] == name:
            address, size = int(fields[1], 16), int(fields[2], 0)
    if address is None:
        return None
    out = subprocess.run(["readelf", "-Wl", path], stdout=subprocess.PIPE, check=True,
                         universal_newlines=True).stdout
    for line in out.splitlines():
        fields = line.split()
        if fields[:1] == ["LOAD"]:
            offset, start, length = int(fields[1], 16), int(fields[2], 16), int(fields[4], 16)
            if start <= address < start + length:
                return address - start + offset, size
    return None


def poke(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


@each(version=["3.16.0", "4.0.0"])
@each(minor=["3.11", "3.12"])
def test_unknown_version(t, minor, version):
    """A CPython that is newer than what is known is refused, never taken for another one."""
    copy = process.Copy(interpreters.one(minor))
    place = symbol(copy.mapped, "Py_Version")
    t.check(place, "no symbol Py_Version")
    major, minor_, micro = (int(x) for x in version.split("."))
    poke(copy.mapped, place[0], struct.pack("<Q", major << 24 | minor_ << 16 | micro << 8 | 0xf0)[
        :place[1]])
    target = process.Target(copy.interpreter, "churn", command=copy.drive("churn", "3"),
                            env=copy.env())
    refused(t, "-p", target.pid, "-o", t.path("trace.json"), code=UNSUPPORTED,
            says=[version.rpartition(".")[0]])
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")


@each(minor=["3.9", "3.11", "3.12", "3.13"])
def test_without_eh_frame(t, minor):
    """Without .eh_frame the limits of functions are not known: no guess."""
    copy = process.Copy(interpreters.one(minor))
    subprocess.run(["objcopy", "--remove-section=.eh_frame", "--remove-section=.eh_frame_hdr",
                    copy.mapped], check=True)
    try:
        target = process.Target(copy.interpreter, "churn", command=copy.drive("churn", "3"),
                                env=copy.env())
    except process.ToolError:
        # objcopy moves what follows; such a file does not always run. The bytes then go instead.
        copy = process.Copy(interpreters.one(minor))
        wipe_section(copy.mapped, ".eh_frame")
        target = process.Target(copy.interpreter, "churn", command=copy.drive("churn", "3"),
                                env=copy.env())
    refused(t, "-p", target.pid, "--engine", "frame", "-o", t.path("trace.json"), code=UNSUPPORTED,
            says=["eh_frame"])
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")


def section(path, name):
    out = subprocess.run(["readelf", "-SW", path], stdout=subprocess.PIPE, check=True,
                         universal_newlines=True).stdout
    for line in out.splitlines():
        fields = line.replace("[ ", "[").split()
        if len(fields) > 5 and fields[1] == name:
            return int(fields[4], 16), int(fields[5], 16)
    raise AssertionError("no section %s" % name)


def wipe_section(path, name):
    offset, size = section(path, name)
    poke(path, offset, b"\0" * size)


DAMAGES = {
    "no section headers": lambda path: poke(path, 0x28, b"\0" * 8),
    "section headers beyond the end": lambda path: poke(path, 0x28, struct.pack("<Q", 1 << 40)),
    "65535 sections": lambda path: poke(path, 0x3c, b"\xff\xff"),
    "garbage in .eh_frame": lambda path: poke(path, section(path, ".eh_frame")[0] + 200,
                                              b"\xff\x5a" * 400),
    "garbage in .dynsym": lambda path: poke(path, section(path, ".dynsym")[0] + 24 * 40,
                                            b"\xfe" * 8),
}


@each(damage=sorted(DAMAGES))
@each(minor=["3.11", "3.12"])
def test_damaged_file(t, minor, damage):
    """What the finder reads is damaged after the process started from it: refused, or traced exactly
    if that part is not needed; never a crash, and the target goes on."""
    copy = process.Copy(interpreters.one(minor))
    target = process.Target(copy.interpreter, "churn", command=copy.drive("churn", "30"),
                            env=copy.env())
    # A private copy on disk: the running process keeps what it has mapped of the old file.
    damaged = copy.mapped + ".damaged"
    process.shutil.copy2(copy.mapped, damaged)
    DAMAGES[damage](damaged)
    target.kill()
    os.replace(damaged, copy.mapped)
    try:
        target = process.Target(copy.interpreter, "churn", command=copy.drive("churn", "30"),
                                env=copy.env())
    except process.ToolError:
        print("such a file does not start")
        return
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
    try:
        tracer.recording()
    except process.ToolError:
        # Without its symbols it cannot be told from a program that is not Python.
        code = tracer.wait()
        t.check(code in (UNSUPPORTED, NO_TARGET), "exit code %d:\n%s", code, tracer.err.text())
        target.go()
        target.done()
    else:
        target.go()
        target.done()
        tracer.expect(DONE, stop=True)
        t.equal(trace.load(t.path("trace.json")).counts().get("run_text"), 30, "slices")
    t.equal(target.finish(), 0, "exit status of the target")


def test_changed_text(t):
    """The process's code at a probe's place is not the file's: somebody wrote into it. Refused."""
    target = process.Target(interpreters.one(), "churn", "3")
    plan, _ = process.run_tool("-p", target.pid, "--dry-run")
    places = [int(x, 16) for x in re.findall(r"\b0x([0-9a-f]{5,})\b", plan)]
    t.check(places, "--dry-run names no address:\n%s", plan)
    with open("/proc/%d/maps" % target.pid) as maps:
        python = [line for line in maps if "python3" in line.rpartition("/")[2]]
    # The first mapping of libpython, else of the executable, which may be linked to a fixed address.
    python = [line for line in python if "libpython3" in line] or python
    base = min(int(line.split("-")[0], 16) for line in python)
    base = 0 if base == 0x400000 else base
    with open("/proc/%d/mem" % target.pid, "r+b", 0) as memory:
        memory.seek(base + places[0])
        old = memory.read(1)
        memory.seek(base + places[0])
        memory.write(b"\xf4" if old != b"\xf4" else b"\x90")
        refused(t, "-p", target.pid, "-o", t.path("trace.json"), code=UNSUPPORTED, says=["differ"])
        memory.seek(base + places[0])
        memory.write(old)
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")


def nobody(*args):
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *args]


def test_not_root(t):
    """Another user's process, without root."""
    interp = interpreters.one("3.11")
    target = process.Target(interp, "churn", "3")
    os.chmod(t.folder, 0o777)
    tool = t.path("pytrace-bpf")
    process.shutil.copy2(process.TOOL, tool)
    done = subprocess.run(nobody(tool, "-p", str(target.pid), "-o", t.path("x.json")),
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, universal_newlines=True,
                          timeout=60)
    t.equal(done.returncode, PERMISSION, "exit code; it said:\n" + done.stderr)
    t.has(done.stderr, "pytrace-bpf", "sudo")
    t.check(not os.path.exists(t.path("x.json")), "a trace was written")


def capable(t, pid, *options):
    """The tool as another user with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and no more."""
    os.chmod(t.folder, 0o777)
    tool = t.path("pytrace-bpf")
    process.shutil.copy2(process.TOOL, tool)
    capabilities = "+bpf,+perfmon,+sys_ptrace"
    return nobody("--inh-caps", capabilities, "--ambient-caps", capabilities, tool, "-p", str(pid),
                  "-o", t.path("x.json"), *options)


def test_three_capabilities(t):
    """They suffice to trace root's process, with probes for the whole file."""
    interp = interpreters.system()
    target = process.Target(interp, "churn", "20")
    command = capable(t, target.pid, "--follow=exact")
    popen = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    err = process.Lines(popen.stderr)
    err.wait("recording", " ".join(command))
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")
    t.equal(popen.wait(60), 0, "exit code; it said:\n" + err.text())
    t.has(err.text(), "its age is trusted instead")
    t.equal(os.stat(t.path("x.json")).st_uid, 65534, "owner of the trace")
    t.equal(trace.load(t.path("x.json")).counts()["run_text"], 20, "slices of run_text()")


def test_three_capabilities_one_process(t):
    """Probes of one process alone want CAP_SYS_ADMIN, on newer kernels."""
    target = process.Target(interpreters.system(), "churn", "20")
    done = subprocess.run(capable(t, target.pid, "--no-follow", "-d", "100ms"),
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, universal_newlines=True,
                          timeout=60)
    if done.returncode != 0:
        t.equal(done.returncode, PERMISSION, "exit code; it said:\n" + done.stderr)
        t.has(done.stderr, "CAP_SYS_ADMIN", "--follow=exact")
    target.kill()


def test_unreadable_interpreter(t):
    """With these capabilities, but an interpreter in a folder that is closed to this user."""
    folder = t.path("closed")
    os.mkdir(folder)
    python = os.path.join(folder, "python3")
    process.shutil.copy2(interpreters.system().file, python)
    popen = subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE)
    os.chmod(folder, 0o700)
    done = subprocess.run(capable(t, popen.pid), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          universal_newlines=True, timeout=60)
    popen.communicate(b"\n", timeout=60)
    t.equal(done.returncode, PERMISSION, "exit code; it said:\n" + done.stderr)
    t.has(done.stderr, python, "may not be read", "CAP_DAC_READ_SEARCH")


def test_unwritable_output(t):
    target = process.Target(interpreters.one(), "churn", "3")
    path = t.path("no/such/folder/trace.json")
    refused(t, "-p", target.pid, "-o", path, code=FAILED, says=[path, "No such file"])
    refused(t, "-p", target.pid, "-o", "/proc/trace.json", code=FAILED, says=["/proc/trace.json"])
    os.mkdir(t.path("folder.json"))
    refused(t, "-p", target.pid, "-o", t.path("folder.json"), code=FAILED, says=["folder.json"])
    before = process.text_of(target.pid)
    t.equal(process.text_differences(before, process.text_of(target.pid)), 0, "bytes that differ")
    target.go()
    target.done()
    t.equal(target.finish(), 0, "exit status of the target")


@each(suffix=["json", "json.gz", "ptcap"])
def test_full_disk(t, suffix):
    """The disk fills up: the reason is named, what was recorded so far is kept and can be read."""
    folder = t.path("small")
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], check=True)
    try:
        target = process.Target(interpreters.one(), "spin",
                                command=process.script(interpreters.one(), "spin.py", "2"))
        path = os.path.join(folder, "trace." + suffix)
        tracer = process.Tracer("-p", target.pid, "-o", path)
        tracer.recording()
        text = tracer.expect(FAILED)  # ends by itself
        t.has(text, "No space left")
        t.check(target.popen.poll() is None, "the target is gone")
        t.equal(target.finish(), 0, "exit status of the target")
        kept = [f for f in os.listdir(folder) if f.startswith("trace.")]
        t.equal(len(kept), 1, "files kept: %s" % kept)
        t.has(text, kept[0])
        kept = os.path.join(folder, kept[0])
        if suffix == "ptcap":
            process.run_tool("replay", kept, "-o", t.path("again.json"))
            kept = t.path("again.json")
        if suffix == "json.gz":
            data = gzip.open(kept, "rb").read()
        else:
            with open(kept, "rb") as file:
                data = file.read()
        got = trace.load(data)
        t.check(got.count > 100, "only %d slices were kept", got.count)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def capture(t, *program):
    """The bytes of a capture of a program."""
    interp = interpreters.one()
    path = t.path("good.ptcap")
    process.run_tool("-o", path, "--", *process.drive_command(interp, *program,
                                                             options=("--go", "--exit")))
    with open(path, "rb") as file:
        return file.read()


def replayed(t, data):
    """The exit code and what it says for a capture of these bytes."""
    path = t.path("bad.ptcap")
    with open(path, "wb") as file:
        file.write(data)
    tracer = process.Tracer("replay", path, "-o", t.path("out.json"))
    code = tracer.wait()
    return code, tracer.err.text()


def test_corrupt_capture(t):
    good = capture(t, "churn", "5")
    for what, data in (("empty", b""), ("text", b"hello\n"), ("random", os.urandom(4096)),
                       ("JSON", b'{"traceEvents": []}'), ("header only", good[:16])):
        code, text = replayed(t, data)
        t.equal(code, FAILED, "exit code for %s; it said: %s" % (what, text))
        t.has(text, "bad.ptcap")
        t.check(not os.path.exists(t.path("out.json")), "an output for %s", what)
    # Any changed byte: an answer, never a crash.
    for i in range(0, len(good), max(1, len(good) // 60)):
        data = bytearray(good)
        data[i] ^= 0xff
        code, text = replayed(t, bytes(data))
        t.check(code in (DONE, FAILED, LOST), "exit code %d for byte %d:\n%s", code, i, text)
        if code in (DONE, LOST):
            trace.load(t.path("out.json"))


def test_capture_cut_short(t):
    """What is whole is replayed, and that it is cut is said."""
    good = capture(t, "threads", "60")
    code, text = replayed(t, good[:len(good) * 9 // 10])
    t.check(code in (DONE, FAILED, LOST), "exit code %d", code)
    t.has(text, "cut short")
    t.check(trace.load(t.path("out.json")).count > 1000, "nothing was kept")


def test_capture_is_not_there(t):
    refused(t, "replay", t.path("no.ptcap"), "-o", t.path("x.json"), code=FAILED,
            says=["no.ptcap", "No such file"])
    refused(t, "report", t.path("no.json"), code=FAILED, says=["no.json", "No such file"])


def test_without_btf(t):
    """A kernel without BTF: /sys/kernel/btf is covered in a mount namespace."""
    target = process.Target(interpreters.one(), "churn", "3")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh",
         process.TOOL, "-p", str(target.pid), "-o", t.path("x.json")], stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, universal_newlines=True, timeout=60)
    t.equal(done.returncode, UNSUPPORTED, "exit code; it said:\n" + done.stderr)
    t.has(done.stderr, "BTF")


def test_broken_pipe(t):
    """-o - into a reader that goes away."""
    target = process.Target(interpreters.one(), "spin",
                            command=process.script(interpreters.one(), "spin.py", "2"))
    read_end, write_end = os.pipe()
    tracer = process.Tracer("-p", target.pid, "-o", "-", stdout=write_end)
    os.close(write_end)
    tracer.recording()
    os.read(read_end, 1000)
    os.close(read_end)
    t.has(tracer.expect(FAILED), "Broken pipe")
    t.equal(target.finish(), 0, "exit status of the target")


def test_32_bit(t):
    """A 32-bit process is refused with the reason (gcc-multilib makes it, where it is there)."""
    source, program = t.path("x.c"), t.path("python3.11")
    with open(source, "w") as file:
        file.write("void _start(void) { __asm__ volatile(\"1: movl $29, %eax; int $0x80; jmp 1b\"); }\n"
                   "int _PyEval_EvalFrameDefault(void) { return 0; }\n")
    compiler = next((c for c in ("clang-19", "clang-14", "gcc") if have(c)), None)
    done = subprocess.run([compiler, "-m32", "-nostdlib", "-ffreestanding", "-static",
                           "-Wl,--build-id", "-o", program, source], stderr=subprocess.PIPE)
    if done.returncode:
        raise Skip("this compiler cannot link for 32 bit: %s" % done.stderr.decode()[-100:])
    try:
        target = subprocess.Popen([program])
    except OSError as error:
        raise Skip("this kernel runs no 32-bit programs: %s" % error) from None
    time.sleep(0.1)
    refused(t, "-p", target.pid, "-o", t.path("trace.json"), code=UNSUPPORTED, says=["32"])
    target.kill()


def test_target_ends_at_once(t):
    """The process ends while the tracer attaches."""
    for delay in (0, 0.02, 0.05, 0.1, 0.2):
        target = process.Target(interpreters.one(), "churn", "3")
        tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json"))
        time.sleep(delay)
        target.popen.send_signal(signal.SIGKILL)
        target.popen.wait()
        code = tracer.wait()
        t.check(code in (DONE, NO_TARGET), "exit code %d after %.2f s:\n%s", code, delay,
                tracer.err.text())
        if code == DONE:
            trace.load(t.path("trace.json"))
