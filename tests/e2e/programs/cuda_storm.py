# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Allocates and frees CUDA memory at random, in threads that free what others have allocated, and
knows itself what is left: result["live"] is [kind, device, function, bytes, allocations]. With "soak"
it goes on for so many seconds instead of steps.

The library is CUDA_LIB (cuda_memory_double.c)."""
import collections
import ctypes
import functools
import os
import random
import threading
import time

LIB = ctypes.CDLL(os.environ["CUDA_LIB"])
LOCK = threading.Lock()
LIVE = []  # (address, kind, device, function, bytes, function that frees)
COUNTS = collections.Counter()
LOCAL = threading.local()


class Extent(ctypes.Structure):
    _fields_ = [("width", ctypes.c_size_t), ("height", ctypes.c_size_t),
                ("depth", ctypes.c_size_t)]


class Pitched(ctypes.Structure):
    _fields_ = [("ptr", ctypes.c_uint64), ("pitch", ctypes.c_size_t), ("xsize", ctypes.c_size_t),
                ("ysize", ctypes.c_size_t)]


class Property(ctypes.Structure):  # CUmemAllocationProp, as far as it matters
    _fields_ = [("type", ctypes.c_uint), ("handles", ctypes.c_uint), ("where", ctypes.c_uint),
                ("id", ctypes.c_int), ("rest", ctypes.c_uint64 * 2)]


Desc = ctypes.c_int * 5  # cudaChannelFormatDesc
FLOAT2 = Desc(32, 32, 0, 0, 2)
u64, size = ctypes.c_uint64, ctypes.c_size_t


def device():
    return getattr(LOCAL, "device", None)


def note(code, out, kind, function, count, free, where=-1):
    """What an allocation returned; where: the device, if it is not the thread's."""
    if code:
        COUNTS["failed allocations"] += 1
        return None
    return (out.value, kind, device() if where == -1 else where, function, count, free)


def linear(n):
    out = u64()
    return note(LIB.cudaMalloc(ctypes.byref(out), size(n)), out, "device", "linear", n, "cudaFree")


def managed(n):
    out = u64()
    return note(LIB.cudaMallocManaged(ctypes.byref(out), size(n), 1), out, "managed", "managed", n,
                "cudaFree")


def pinned(n):
    out = u64()
    return note(LIB.cudaMallocHost(ctypes.byref(out), size(n)), out, "pinned host", "pinned", n,
                "cudaFreeHost", None)


def host(n):
    out = u64()
    return note(LIB.cudaHostAlloc(ctypes.byref(out), size(n), 0), out, "pinned host", "host", n,
                "cudaFreeHost", None)


def pitch(n):
    out, row = u64(), size()
    code = LIB.cudaMallocPitch(ctypes.byref(out), ctypes.byref(row), size(n), size(3))
    return note(code, out, "device", "pitch", row.value * 3, "cudaFree")


def cube(n):
    out = Pitched()
    code = LIB.cudaMalloc3D(ctypes.byref(out), Extent(n, 3, 2))
    return note(code, u64(out.ptr), "device", "cube", n * 6, "cudaFree")


def array(n):
    out = u64()
    code = LIB.cudaMallocArray(ctypes.byref(out), ctypes.byref(FLOAT2), size(n), size(0), 0)
    return note(code, out, "array", "array", n * 8, "cudaFreeArray")


def array3(n):
    out = u64()
    code = LIB.cudaMalloc3DArray(ctypes.byref(out), ctypes.byref(FLOAT2), Extent(n, 2, 5), 0)
    return note(code, out, "array", "array3", n * 8 * 10, "cudaFreeArray")


def pool(n):
    out = u64()
    return note(LIB.cudaMallocAsync(ctypes.byref(out), size(n), u64(0)), out, "pool", "pool", n,
                "cudaFreeAsync")


def foreign_pool(n):
    out = u64()
    code = LIB.cudaMallocFromPoolAsync_ptsz(ctypes.byref(out), size(n), u64(0x77), u64(0))
    return note(code, out, "pool", "foreign_pool", n, "cudaFreeAsync", None)


def physical(n):
    out = u64()
    code = LIB.cuMemCreate(ctypes.byref(out), size(n), ctypes.byref(Property(1, 0, 1, 2)), u64(0))
    return note(code, out, "physical", "physical", n, "cuMemRelease", 2)


KINDS = [linear, managed, pinned, host, pitch, cube, array, array3, pool, foreign_pool, physical]


def allocate(rng, most=1 << 20):
    got = rng.choice(KINDS)(rng.randrange(1, most))
    with LOCK:
        COUNTS["allocations"] += 1
        LIVE.append(got)


def free(block):
    arguments = [u64(block[0])] + [u64(0)] * (block[5] == "cudaFreeAsync")
    return getattr(LIB, block[5])(*arguments)


def free_one(rng):
    with LOCK:
        if not LIVE:
            return
        index = rng.randrange(len(LIVE))
        block = LIVE[index]
        LIVE[index] = LIVE[-1]
        LIVE.pop()
        COUNTS["frees"] += 1
    assert free(block) == 0


def choose_device(rng):
    LOCAL.device = rng.randrange(4)
    assert LIB.cudaSetDevice(LOCAL.device) == 0
    assert LIB.cudaSetDevice(17) == 100


LIVE_MAX = 5000


def steps_of(count, seconds):
    if not seconds:
        yield from range(count)
        return
    end = time.monotonic() + count
    while time.monotonic() < end:
        yield from range(500)


def storm(seed, steps):
    rng = random.Random(seed)
    if seed % 2:  # the others never say which device they use
        choose_device(rng)
    for _ in steps:
        kind = rng.random()
        if kind < 0.02 and seed % 2:
            choose_device(rng)
        elif kind < 0.6 and len(LIVE) < LIVE_MAX:
            allocate(rng)
        else:
            free_one(rng)


def failures():
    for kind in KINDS:
        if "array" not in kind.__name__:  # its size is not looked at
            assert kind(1 << 41) is None
    assert LIB.cudaMalloc(ctypes.byref(u64()), size(0)) == 0  # gives no address
    assert LIB.cudaFree(u64(0)) == 0
    COUNTS["allocations"] += 1


def double_frees(block):
    assert free(block) == 0
    COUNTS["frees"] += 1
    assert free(block) == 1 and free(block) == 1
    COUNTS["double frees"] += 2
    COUNTS["failed frees"] += 2


def unknown_frees(blocks):
    assert LIB.cudaFree(u64(0x1234500)) == 1
    COUNTS["failed frees"] += 1
    for block in blocks:  # from before the recording
        assert free(block) == 0
    COUNTS["frees of unknown addresses"] += 1 + len(blocks)


def misuse():
    """cudaFree() of what is no such memory fails, and it stays."""
    block = array(100)
    assert LIB.cudaFree(u64(block[0])) == 1
    COUNTS.update({"allocations": 1, "failed frees": 1, "frees of unknown addresses": 1})
    LIVE.append(block)


def registered():
    for i in range(1, 4):
        assert LIB.cudaHostRegister(u64(i), size(4096 * i), 0) == 0
    assert LIB.cudaHostUnregister(u64(2)) == 0
    COUNTS.update({"allocations": 3, "frees": 1})
    for i in (1, 3):
        LIVE.append((i, "registered host", None, "registered", 4096 * i, None))


def streams():
    """Memory of a stream is of the device that it was made on."""
    stream, out = u64(), u64()
    assert LIB.cudaSetDevice(3) == 0 and LIB.cudaStreamCreate(ctypes.byref(stream)) == 0
    assert LIB.cudaSetDevice(1) == 0
    LOCAL.device = 1
    assert LIB.cudaMallocAsync(ctypes.byref(out), size(777), stream) == 0
    LIVE.append((out.value, "pool", 3, "streams", 777, "cudaFreeAsync"))
    assert LIB.cudaStreamDestroy(stream) == 0
    assert LIB.cudaMallocAsync(ctypes.byref(out), size(77), stream) == 0
    LIVE.append((out.value, "pool", None, "streams", 77, "cudaFreeAsync"))
    COUNTS["allocations"] += 2


def mapped():
    """Physical memory without a handle lives as long as its mapping."""
    blocks = [physical(n) for n in (1 << 21, 1 << 22)]
    COUNTS["allocations"] += 2
    for i, block in enumerate(blocks):
        assert LIB.cuMemMap(u64((4 + i) << 30), size(1 << 30), size(0), u64(block[0]), u64(0)) == 0
        assert LIB.cuMemRelease(u64(block[0])) == 0
    again = physical(5)  # the handle may be the same
    COUNTS["allocations"] += 1
    LIVE.extend([blocks[1], again])
    assert LIB.cuMemUnmap(u64(4 << 30), size(1 << 30)) == 0
    COUNTS["frees"] += 1


def fork():
    """A child has nothing of its parent's; what it leaves ends with it."""
    pid = os.fork()
    if not pid:
        child_leaves()
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def child_leaves():
    linear(4321)


EARLY = [linear(100 + i) for i in range(5)]


def workload(count, *what):
    steps = functools.partial(steps_of, int(count), "soak" in what)
    threads = [threading.Thread(target=storm, args=(seed, steps())) for seed in range(3)]
    for thread in threads:
        thread.start()
    storm(3, steps())
    for thread in threads:
        thread.join()
    failures()
    double_frees(LIVE.pop())
    unknown_frees(EARLY)
    misuse()
    registered()
    mapped()
    streams()
    child = fork() if "fork" in what else None
    live = collections.defaultdict(lambda: [0, 0])
    for _, kind, where, function, count, _ in LIVE:
        live[kind, where, function][0] += count
        live[kind, where, function][1] += 1
    return {"live": [[*key, *value] for key, value in live.items()], "counts": COUNTS,
            "child": child}
