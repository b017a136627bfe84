# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Allocates as PyTorch's allocator of CUDA memory does: segments of CUDA (cuda_memory_double.c, in
CUDA_LIB), and blocks in them, of which libc10 (torch_blocks_double.c, in C10_LIB) is told."""
import ctypes
import os
import random
import threading

CUDA, C10 = ctypes.CDLL(os.environ["CUDA_LIB"]), ctypes.CDLL(os.environ["C10_LIB"])
TELL = C10._ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE
TELL.argtypes = [ctypes.c_uint64, ctypes.c_int64, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint16]
C10.blocks_host.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
SEGMENT, UNIT, DEVICE = 1 << 20, 1 << 12, 2
LOCK = threading.Lock()


def tell(address, size, kind=1, device=DEVICE):
    TELL(address, size, 0, 0, kind | device << 8)


def segment():
    out = ctypes.c_uint64()
    assert CUDA.cudaMalloc(ctypes.byref(out), ctypes.c_size_t(SEGMENT)) == 0
    return out.value


def allocate(segments, live, rng):
    places = [(s, n) for s in segments for n in range(SEGMENT // UNIT // 4)
              if s + 4 * n * UNIT not in live]
    base, number = rng.choice(places)
    size = rng.randrange(1, 5) * UNIT
    live[base + 4 * number * UNIT] = size
    tell(base + 4 * number * UNIT, size)


def churn(seed, segments, live):
    rng = random.Random(seed)
    for _ in range(150):
        with LOCK:  # as PyTorch's allocator has one
            if live and rng.random() < 0.45:
                address = rng.choice(sorted(live))
                tell(address, -live.pop(address))
            else:
                allocate(segments, live, rng)


def workload():
    assert CUDA.cudaSetDevice(DEVICE) == 0
    plain, segments, live = segment(), [segment() for _ in range(2)], {}
    emptied, returned = segment(), segment()
    for at in (emptied, returned):
        tell(at, 2 * UNIT)
        tell(at, -2 * UNIT)
    assert CUDA.cudaFree(ctypes.c_uint64(returned)) == 0
    threads = [threading.Thread(target=churn, args=(seed, segments, live)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(0x7e0000000000, 3 * UNIT)  # in no segment that is known
    tell(0x7e0000100000, -UNIT)  # was never given out
    tell(emptied, -2 * UNIT)  # once more
    tell(0x7e0000200000, UNIT, kind=0)  # of the host: others tell of it
    for i in range(1, 8):
        C10.blocks_host(i << 16, 100 + i)
    for i in range(1, 4):
        C10.blocks_host(i << 16, 0)
    C10.blocks_host(0, 0)
    return {"plain": plain, "segments": segments, "emptied": emptied,
            "live": [list(item) for item in live.items()]}
