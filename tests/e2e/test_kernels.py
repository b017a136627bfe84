# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""kernels: the names of CUDA kernels, against what programs say of themselves, against the symbols
of the same program before it was stripped, and against a live probe on the registering function."""
import functools
import glob
import json
import mmap
import os
import re
import shutil
import stat
import subprocess

from harness import process
from harness.runner import Skip, each, limit
from harness.uprobe import Uprobe

FAILED, USAGE, PERMISSION, NO_TARGET, UNSUPPORTED = range(1, 6)
SAMPLE = os.path.join(process.TOP, "tests", "fuzz", "corpus", "kernels", "two")


def kernels(path, *options):
    out, err = process.run_tool("kernels", "--json", *(options or ("--no-cache",)), path)
    return json.loads(out), err


def nvcc():
    found = shutil.which("nvcc") or next(iter(glob.glob("/usr/local/cuda*/bin/nvcc")), None)
    if not found:
        raise Skip("no nvcc (CUDA toolkit) on this machine")
    return found


def build(t, *options):
    """(the program, the same stripped)"""
    program, stripped = t.path("program"), t.path("stripped")
    done = subprocess.run([nvcc(), *options, "-o", program,
                           os.path.join(process.PROGRAMS, "kernels.cu")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    t.check(done.returncode == 0, "nvcc failed: %s", done.stdout)
    subprocess.run(["strip", "-o", stripped, program], check=True)
    return program, stripped


def symbols(path):
    """address -> names"""
    out = subprocess.run(["nm", path], stdout=subprocess.PIPE, check=True,
                         universal_newlines=True).stdout
    found = {}
    for line in out.splitlines():
        fields = line.split()
        if len(fields) == 3:
            found.setdefault(int(fields[0], 16), []).append(fields[2])
    return found


@functools.lru_cache()
def loads(path):
    """[(offset, address, bytes)] of the segments"""
    out = subprocess.run(["readelf", "-Wl", path], stdout=subprocess.PIPE, check=True,
                         universal_newlines=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return [(int(r[1], 16), int(r[2], 16), int(r[4], 16)) for r in rows if r[:1] == ["LOAD"]]


def file_offset(path, vaddr):
    for offset, start, length in loads(path):
        if start <= vaddr < start + length:
            return vaddr - start + offset
    raise AssertionError("%#x is not in %s" % (vaddr, path))


def texts_at(path, vaddrs):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        for vaddr in vaddrs:
            begin = file_offset(path, vaddr)
            yield data[begin:data.find(b"\0", begin)].decode()


def probed(path, offset, command, **kwargs):
    """Runs it; (what it printed, [(stub, the name's address)] of what it registered)"""
    probe = Uprobe(path, offset)
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True,
                              **kwargs) as program:
            out = program.stdout.read()
        assert program.returncode == 0, program.returncode
        return out, probe.read(program.pid)
    finally:
        probe.close()


def libcudart():
    """The shared runtime that nvcc links to."""
    for folder in ("lib", "lib64", "targets/x86_64-linux/lib"):
        found = glob.glob(os.path.join(os.path.dirname(os.path.dirname(
            os.path.realpath(nvcc()))), folder, "libcudart.so.*"))
        if found:
            return os.path.realpath(found[0])
    raise Skip("no libcudart.so beside nvcc")


BUILDS = {
    "static": (),
    "static -O2 -rdc": ("-O2", "-rdc=true"),
    "shared -Os -fno-plt": ("-cudart", "shared", "-Xcompiler", "-Os,-fno-plt"),
    "shared -O2 -no-pie": ("-cudart", "shared", "-Xcompiler", "-O2,-no-pie", "-Xlinker", "-no-pie"),
}


def run(program, handles, registrar):
    where = libcudart()
    env = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(where))
    if registrar:
        at = program, file_offset(program, int(registrar, 16))
    else:
        at = where, next(file_offset(where, vaddr) for vaddr, name in dynamic_symbols(where)
                         if name == "__cudaRegisterFunction")
    return probed(*at, [program, *handles], env=env)


@each(how=sorted(BUILDS))
def test_program(t, how):
    program, stripped = build(t, *BUILDS[how])
    got, err = kernels(stripped)
    same, _ = kernels(program)
    t.equal(got["kernels"], same["kernels"], "kernels of the program with symbols and without")
    check_runtime(t, got, same)
    t.equal(got["undecoded"], 0, "registrations that were not decoded")
    t.equal(err, "", "stderr")
    names = symbols(program)
    static = "registrar" in got
    t.equal(static, how.startswith("static"), "has its own registering function")
    if static:
        t.check("__cudaRegisterFunction" in names[int(got["registrar"], 16)], "the registrar's symbol")
    for kernel in got["kernels"]:
        # of static ones, nvcc prepends the file's name, and does not say L for local
        name = re.sub(r"^__nv_static_\d+__.*?__Z", "_Z", kernel["name"])
        at = names[int(kernel["stub"], 16)]
        t.check(name in at or name.replace("_Z", "_ZL", 1) in at, "%s is %s", name, at)
    # its own words, and what it keeps in the variables
    out, live = run(stripped, [k["handle_at"] for k in got["kernels"]], got.get("registrar"))
    bias = int(re.search(r"^bias (\S+)", out, re.M).group(1), 16)
    said = {int(at, 16): name for name, at in re.findall(r"^stub (\S+) (\S+)$", out, re.M)}
    t.equal({int(k["stub"], 16): re.sub(r"^void |\(anonymous namespace\)::|\([^()]*\)$", "",
                                        k["demangled"]) for k in got["kernels"]}, said,
            "stubs and names")
    t.equal(sorted(zip((stub - bias for stub, _ in live),
                       texts_at(stripped, (name - bias for _, name in live)))),
            sorted((int(k["stub"], 16), k["name"]) for k in got["kernels"]), "live registrations")
    words = {int(at, 16): int(value, 16) for at, value in re.findall(r"^word (\S+) (\S+)$", out, re.M)}
    t.equal(len(words), len(got["kernels"]), "variables of handles")
    if not os.path.exists("/dev/nvidiactl"):
        # without a driver, the runtime's handle of a kernel is its stub
        t.equal(words, {int(k["handle_at"], 16): int(k["stub"], 16) + bias for k in got["kernels"]},
                "handles")


def check_runtime(t, stripped, twin):
    """The runtime's functions in a stripped file, against the symbols of the same before that."""
    t.equal("runtime" in stripped, "runtime" in twin, "has a runtime")
    found, truth = stripped.get("runtime", {}), twin.get("runtime", {})
    t.equal(found, {name: truth[name] for name in found if name in truth}, "the runtime's functions")
    # it tells no profiler of its calls, so its code does not say what it is
    t.equal(set(truth) - set(found), {"cudaGetExportTable"} if truth else set(), "not found")
    t.equal(stripped.get("runtime_refused", 0), 0, "refused")


def dynamic_symbols(path):
    out = subprocess.run(["nm", "-D", "--defined-only", path], stdout=subprocess.PIPE, check=True,
                         universal_newlines=True).stdout
    for line in out.splitlines():
        fields = line.split()
        if len(fields) == 3:
            yield int(fields[0], 16), fields[2].split("@")[0]


LOADER = """
import ctypes, os, sys
ctypes.CDLL(sys.argv[1])
real = os.path.realpath(sys.argv[1])
print(min(int(l.split("-")[0], 16) for l in open("/proc/self/maps") if l.rstrip().endswith(real)))
"""


def libraries(name="*"):
    return sorted({os.path.realpath(path) for folder in ("lib", "lib64", "targets/x86_64-linux/lib")
                   for path in glob.glob("/usr/local/cuda*/%s/lib%s.so.*" % (folder, name))})


@limit(240)
@each(name=["cudnn_ops", "nccl"])
def test_library(t, name):
    """NVIDIA's libraries, stripped and with a runtime of their own."""
    found = libraries(name)
    if not found:
        raise Skip("no lib%s on this machine" % name)
    path = found[0]
    got, _ = kernels(path)
    t.check("registrar" in got, "no registering function")
    out, live = probed(path, file_offset(path, int(got["registrar"], 16)),
                       ["python3", "-c", LOADER, path],
                       env=dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(path)))
    bias = int(out)
    live = set(zip((stub - bias for stub, _ in live),
                   texts_at(path, (name - bias for _, name in live))))
    ours = {(int(k["stub"], 16), k["name"]) for k in got["kernels"]}
    t.check(live, "nothing was registered")
    t.equal(len(live - ours), 0, "kernels that were missed")
    t.equal(len(ours - live), 0, "kernels that are not registered")
    t.equal(got["undecoded"], 0, "registrations that were not decoded")
    print("%d kernels" % len(ours))


@limit(240)
def test_all_libraries(t):
    """Whatever the toolkit has: all is decoded, each kernel has a stub and a handle of its own."""
    total = files = 0
    functions = None
    for path in libraries():
        if ".nvFatBinSegment" not in subprocess.run(
                ["readelf", "-SW", path], stdout=subprocess.PIPE, check=True,
                universal_newlines=True).stdout:
            continue
        got, err = kernels(path)
        t.equal((got["undecoded"], err), (0, ""), "%s: what was not decoded" % path)
        stubs = {k["stub"] for k in got["kernels"]}
        t.equal(len(stubs), len(got["kernels"]), "%s: stubs" % path)
        t.equal(len({k["handle_at"] for k in got["kernels"] if "handle_at" in k}), len(stubs),
                "%s: variables of handles" % path)
        runtime = set(got["runtime"])
        functions = functions or runtime - {"cudaGetExportTable"}
        t.equal((runtime - {"cudaGetExportTable"}, got["runtime_refused"]), (functions, 0),
                "%s: functions of the runtime inside" % path)
        total += len(stubs)
        files += 1
    if not files:
        raise Skip("no CUDA libraries on this machine")
    print("%d kernels of %d libraries" % (total, files))


def test_sample(t):
    """A file that needs no CUDA; as text, as JSON, out of the cache."""
    out, err = process.run_tool("kernels", "--no-cache", SAMPLE)
    t.equal(err, "", "stderr")
    t.equal([line.split(None, 2)[2] for line in out.splitlines()[1:]],
            ["void axpy<float>(float, float const*, float*, int)", "one(int*)"], "names")
    cache = t.path("cache")
    first, _ = kernels(SAMPLE, "--cache-dir", cache)
    files = os.listdir(cache)
    t.equal([re.sub(r"-.*", "", name) for name in files], ["kernels"], "files of the cache")
    path = os.path.join(cache, files[0])
    written = os.stat(path).st_ino
    t.equal(kernels(SAMPLE, "--cache-dir", cache)[0], first, "what the cache has")
    t.equal(os.stat(path).st_ino, written, "the cache file stays")
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 1)
    t.equal(kernels(SAMPLE, "--cache-dir", cache)[0], first, "after the cache was damaged")
    t.check(os.stat(path).st_ino != written, "the damaged cache file is written anew")
    os.chmod(path, stat.S_IRUSR | stat.S_IWUSR | stat.S_IWOTH)
    written = os.stat(path).st_ino
    t.equal(kernels(SAMPLE, "--cache-dir", cache)[0], first, "after others could write to it")
    t.check(os.stat(path).st_ino != written, "a file that others may write to is not believed")


def make_bad(t, what):
    path = t.path("file")
    with open(SAMPLE, "rb") as file:
        data = file.read()
    if what == "directory":
        os.mkdir(path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "no CUDA":
        path = "/bin/true"
    elif what != "missing":
        with open(path, "wb") as file:
            file.write({"empty": b"", "text": b"int main(void);\n", "cut in the header": data[:40],
                        "device code only": data.replace(b"\xff\xff\xff\xff", b"\0\0\0\0"),
                        "cut in half": data[:len(data) // 2],
                        "32-bit": data[:4] + b"\1" + data[5:],
                        "another machine": data[:18] + b"\xb7\0" + data[20:]}[what])
    return path


BAD = {
    "missing": (NO_TARGET, "No such file"),
    "directory": (NO_TARGET, "not an ELF file"),
    "fifo": (NO_TARGET, "not an ELF file"),
    "empty": (NO_TARGET, "not an ELF file"),
    "text": (NO_TARGET, "not an ELF file"),
    "no CUDA": (NO_TARGET, "registers no CUDA kernels"),
    "cut in the header": (NO_TARGET, "not an ELF file"),
    "cut in half": (UNSUPPORTED, "section headers"),
    "device code only": (UNSUPPORTED, "code for a GPU"),
    "32-bit": (UNSUPPORTED, "32-bit"),
    "another machine": (UNSUPPORTED, "x86-64"),
}


@each(what=sorted(BAD))
def test_bad_file(t, what):
    code, words = BAD[what]
    out, err = process.run_tool("kernels", "--no-cache", make_bad(t, what), code=code)
    t.equal(out, "", "stdout")
    t.has(err, "pytrace-bpf", words)
    t.check(len(err.splitlines()) <= 3, "more than three lines:\n%s", err)


def test_no_file(t):
    _, err = process.run_tool("kernels", code=USAGE)
    t.has(err, "kernels", "file")
