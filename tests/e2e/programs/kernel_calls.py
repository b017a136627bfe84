# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Launches the kernels of cuda_kernels.c, whose path is CUDA_KERNELS, by handles and by stubs in
turn. With CUDA_LATE it is loaded in workload(), with the file CUDA_GO waited for behind that."""
import ctypes
import os
import time

LIBS = []


def load():
    LIBS.append(ctypes.CDLL(os.environ["CUDA_KERNELS"]))


if not os.environ.get("CUDA_LATE"):
    load()


def step(as_stubs):
    return LIBS[0].launch_all(as_stubs)


def workload(count):
    if os.environ.get("CUDA_LATE"):
        load()
        while not os.path.exists(os.environ["CUDA_GO"]):
            time.sleep(0.01)
    return {"codes": [step(i % 2) for i in range(int(count))]}
