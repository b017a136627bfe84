# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""One rank of several that wait for each other in collectives; CUDA_LIB is nccl_ranks_double.c. The
argument is RANK,SIZE,ROUNDS."""
import ctypes
import os

LIB = ctypes.CDLL(os.environ["CUDA_LIB"])
FLOAT, STREAM = 7, ctypes.c_void_p(0x77)


class Id(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_char * 128)]


def make(size, rank, number):
    comm, own = ctypes.c_void_p(), Id()
    ctypes.memmove(ctypes.byref(own), b"unique%d!%c" % (number, number), 9)
    assert LIB.ncclCommInitRank(ctypes.byref(comm), size, own, rank) == 0
    return comm


def reduce(comm, count):
    assert LIB.ncclAllReduce(ctypes.c_void_p(1), ctypes.c_void_p(2), ctypes.c_size_t(count), FLOAT,
                             0, comm, STREAM) == 0


def workload(text):
    rank, size, rounds = (int(n) for n in text.split(","))
    first, second = make(size, rank, 1), make(size, rank, 2)
    for i in range(rounds):
        reduce(first, 1 + i % 7)
        if i % 3 == 0:
            LIB.ncclGroupStart()
            reduce(second, 5)
            LIB.ncclGroupEnd()
        LIB.cudaStreamSynchronize(STREAM)
    return {"rounds": rounds}
