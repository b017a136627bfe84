# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls CUDA functions by ctypes, in threads, and notes each call itself.

The libraries are in CUDA_LIBS, separated by ':'; with CUDA_LATE they are loaded in workload(), with
a file of CUDA_GO waited for behind that."""
import ctypes
import os
import threading
import time
import _thread

NOTES = []  # [thread, Python function, CUDA function, what it returned, value given back]
LIBS = []


def load():
    LIBS.extend(ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
                for path in os.environ["CUDA_LIBS"].split(":"))


if not os.environ.get("CUDA_LATE"):
    load()


class Dim3(ctypes.Structure):
    _fields_ = [("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint)]


class Config(ctypes.Structure):
    _fields_ = [("grid", Dim3), ("block", Dim3), ("shared", ctypes.c_size_t),
                ("stream", ctypes.c_void_p), ("attrs", ctypes.c_void_p),
                ("attr_count", ctypes.c_uint)]


def note(caller, name, code, value=None):
    NOTES.append([_thread.get_native_id(), caller, name, code, value])


def size(n):
    return ctypes.c_size_t(n)


def pointer(n):
    return ctypes.c_void_p(n)


def allocate(lib, n):
    out = ctypes.c_void_p()
    code = lib.cudaMalloc(ctypes.byref(out), size(n))
    note("allocate", "cudaMalloc", code, out.value)
    return out


def move(lib, out, n):
    note("move", "cudaMemcpy", lib.cudaMemcpy(out, pointer(0x2000), size(n), 1))


def release(lib, out):
    note("release", "cudaFree", lib.cudaFree(out))


def launch(lib):
    code = lib.cudaLaunchKernel(pointer(0x1234), Dim3(3, 4, 5), Dim3(32, 2, 1), None, size(77),
                                pointer(0x123))
    note("launch", "cudaLaunchKernel", code)


def round_of(lib, n):
    out = allocate(lib, n)
    move(lib, out, n)
    launch(lib)
    release(lib, out)


def rare(runtime, driver):
    """Each kind of argument once."""
    stream, ms, device = ctypes.c_void_p(), ctypes.c_float(), ctypes.c_int()
    note("rare", "cudaMalloc", runtime.cudaMalloc(ctypes.byref(stream), size(0)))
    note("rare", "cudaStreamCreate", runtime.cudaStreamCreate(ctypes.byref(stream)), stream.value)
    note("rare", "cudaEventQuery", runtime.cudaEventQuery(pointer(0x99)))
    note("rare", "cudaEventElapsedTime",
         runtime.cudaEventElapsedTime(ctypes.byref(ms), pointer(1), pointer(2)), ms.value)
    note("rare", "cudaGetDevice", runtime.cudaGetDevice(ctypes.byref(device)), device.value)
    config = Config(Dim3(7, 8, 9), Dim3(16, 2, 3), 4096, 0x5000, None, 0)
    note("rare", "cudaLaunchKernelExC",
         runtime.cudaLaunchKernelExC(ctypes.byref(config), pointer(0x4321), None))
    code = driver.cuLaunchKernel(pointer(0x777), *(ctypes.c_uint(i) for i in range(1, 8)),
                                 pointer(0x5000), None, None)
    note("rare", "cuLaunchKernel", code)
    note("rare", "cuDeviceGet", driver.cuDeviceGet(ctypes.byref(device), 2), device.value)
    note("rare", "cuDeviceGet", driver.cuDeviceGet(ctypes.byref(device), 9))


def rounds(count):
    for i in range(count):
        for lib in LIBS:
            if hasattr(lib, "cudaMalloc"):
                round_of(lib, 256 + i)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def workload(count, *kinds):
    if os.environ.get("CUDA_LATE"):
        load()
        wait_for(os.environ["CUDA_GO"])
    threads = [threading.Thread(target=rounds, args=(int(count),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    rounds(int(count))
    for thread in threads:
        thread.join()
    if "rare" in kinds:
        rare(LIBS[1], LIBS[0])
    return {"calls": NOTES}
