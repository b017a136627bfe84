#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Makes the seeds in tests/fuzz/corpus from the golden captures: run it after golden-update."""

import os
import struct
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden")
HEADER, CHUNK = 312, 24  # struct pt_capture_header, struct pt_capture_chunk


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


# A small ELF file with what makes an interpreter; it is none, but gets the readers going.
SMALL = """
unsigned long Py_Version = 0x030b02f0;
char _PyRuntime[64];
const char *Py_GetVersion(void) { return "3.11.2 (main)"; }
int Py_GetRecursionLimit(void) { return 1000; }
long _PyEval_EvalFrameDefault(long *ts, long *f, int x)
{
	if (--ts[3] < 0)
		return 0;
	while (*f++)
		ts[1] += x;
	ts[3]++;
	return 1;
}
"""


# A rank whose communicator fuzz_trace.c has the other rank of.
NCCL = b"""{
  "pytrace-bpf": {
    "host": "a"
  },
  "baseTimeNanoseconds": 0,
  "traceEvents": [
{"ph":"X","cat":"nccl","name":"ncclCommInitRank","pid":1,"tid":1,"ts":1,"dur":9,\
"args":{"comm":"0x1","nranks":2,"rank":0,"commId":"12","return":"ncclSuccess"}},
{"ph":"X","cat":"nccl","name":"ncclGroupStart","pid":1,"tid":1,"ts":15,"dur":1,\
"args":{"return":"ncclSuccess"}},
{"ph":"X","cat":"nccl","name":"ncclAllReduce","pid":1,"tid":1,"ts":20,"dur":1,\
"args":{"comm":"0x1","count":4,"return":"ncclSuccess"}},
{"ph":"X","cat":"cuda_driver","name":"cuLaunchKernelEx","pid":1,"tid":1,"ts":31,"dur":1,\
"args":{"correlation":4,"kernel":"k","return":"CUDA_SUCCESS"}},
{"ph":"X","cat":"nccl","name":"ncclGroupEnd","pid":1,"tid":1,"ts":30,"dur":3,\
"args":{"return":"ncclSuccess"}},
{"ph":"B","cat":"gpu_bounds","name":"k","pid":0,"tid":9,"ts":31,"args":{"ended by call":7}},
{"ph":"E","cat":"gpu_bounds","name":"k","pid":0,"tid":9,"ts":50},
{"ph":"s","cat":"gpu_bounds","name":"gpu_bounds","pid":1,"tid":1,"ts":31,"id":4}
  ],
  "pytrace-bpf summary": {
    "lost events": 0
  }
}
"""

# A file that registers kernels as nvcc's do; no CUDA is needed.
KERNELS = """
typedef void *dim3p;
__attribute__((section(".nvFatBinSegment"))) int wrapper[6] = {0x466243b1, 1};
__attribute__((noinline)) void __cudaRegisterFunction(void **handle, const void *host, char *text,
	const char *name, int limit, dim3p a, dim3p b, dim3p c, dim3p d, int *e)
{ __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) int __cudaGetKernel(void **handle, const void *host)
{ __asm__ volatile("" ::: "memory"); return 0; }
static void *handle_a, *handle_b, **module;
__attribute__((visibility("hidden"))) int stub_a(void) { return __cudaGetKernel(&handle_a, stub_a) + 1; }
__attribute__((noinline)) static int inner_b(void);
__attribute__((visibility("hidden"))) int stub_b(void) { return inner_b(); }
static int inner_b(void) { return __cudaGetKernel(&handle_b, stub_b) + 2; }
__attribute__((constructor)) static void all(void)
{
	__cudaRegisterFunction(module, stub_a, "_Z4axpyIfEvT_PKS0_PS0_i", "_Z4axpyIfEvT_PKS0_PS0_i",
		-1, 0, 0, 0, 0, 0);
	__cudaRegisterFunction(module, stub_b, "__nv_static_9__a_1_b_cu__Z3onePi",
		"__nv_static_9__a_1_b_cu__Z3onePi", -1, 0, 0, 0, 0, 0);
}
"""


# Operators as PyTorch has them: one with two rets, one that an exception may leave, one that jumps.
TORCH = """
__attribute__((noinline)) static long find_schema(const char *name, const char *overload)
{ __asm__ volatile("" ::"r"(name), "r"(overload) : "memory"); return 1; }
__attribute__((noinline)) void _Unwind_Resume(void *e) { for (;;) __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) int __gxx_personality_v0(void) { return 0; }
__attribute__((noinline)) int __gcc_personality_v0(void) { return 0; }
__attribute__((noinline)) void any(long *x) { __asm__ volatile("" ::"r"(x) : "memory"); }
__attribute__((noinline)) long mul(long n) __asm__("_ZN2at4_ops3mul4callEl");
long mul(long n)
{ if (n & 1) return find_schema("aten::mul", ""); any(&n); return n * 3; }
long add(long n) __asm__("_ZN2at4_ops10add_Tensor4callEl");
long add(long n)
{ __attribute__((cleanup(any))) long x = find_schema("aten::add", "Tensor"); any(&n); return mul(n) + x; }
long jumps(long n) __asm__("_ZN2at4_ops5jumps4callEl");
long jumps(long n) { return mul(n + 1); }
"""

# An extension module: a module's table, a type's, and one named by slots.
METHODS = """
struct def { const char *name; void *meth; int flags; const char *doc; };
void *PyModuleDef_Init(void *module);
static void *nap(void *self, void *arg) { return arg; }
static void *look(void *self, void *arg) { return self; }
static struct def functions[] = {{"nap", nap, 8, "nap()"}, {"look", look, 4}, {0}};
static struct def methods[] = {{"look", look, 0x82}, {"peek", look, 4}, {0}};
static struct def others[] = {{"nap", nap, 1}, {0}};
static struct { long base[5]; const char *name, *doc; long size; struct def *methods; } module =
	{{1}, "demo", 0, -1, functions};
struct { long head[3]; const char *name; long sizes[2], slots[23]; struct def *methods; } type =
	{{1}, "demo.Thing", {64, 0}, {0}, methods};
static struct { long id; void *value; } slots[] = {{52, nap}, {64, others}, {0}};
struct { const char *name; int basic, item; unsigned int flags; void *slots; } spec =
	{"demo.Other", 32, 0, 0, slots};
void *PyInit__demo(void) { return PyModuleDef_Init(&module); }
"""


def make_elf(text):
    with tempfile.TemporaryDirectory() as folder:
        source, out = os.path.join(folder, "x.c"), os.path.join(folder, "x.so")
        with open(source, "w") as f:
            f.write(text)
        subprocess.run(["cc", "-O1", "-fexceptions", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,noseparate-code",
                        "-o", out, source], check=True)
        subprocess.run(["strip", out], check=True)
        return read(out)


def main():
    write("finder", "small-elf", b"\0" + make_elf(SMALL))
    write("finder", "methods", b"\0" + make_elf(METHODS))
    write("kernels", "two", make_elf(KERNELS))
    write("torch", "three", make_elf(TORCH))
    write("finder", "change-header", b"\1" + struct.pack("<IB", 40 << 1, 1))
    write("finder", "change-code", b"\1" + struct.pack("<IBIB", 1000 << 1 | 1, 4, 20001, 255))
    for name in ("calls", "loss", "processes", "damage", "runtime", "lines", "control", "sched",
                 "values", "cuda", "marks", "async", "memory", "torch", "gpu"):
        capture = read(os.path.join(GOLDEN, name + ".ptcap"))
        records = capture[HEADER + CHUNK:-CHUNK]
        write("capture", name, capture)
        # fuzz_capture.c's own form: flags, length, data
        write("capture", name + "-chunks",
              bytes([0]) + len(records).to_bytes(2, "little") + records + bytes([2, 0, 0]))
        write("records", name, records)
        write("trace", name, read(os.path.join(GOLDEN, name + ".json")))
    write("trace", "nccl", NCCL)


if __name__ == "__main__":
    main()
