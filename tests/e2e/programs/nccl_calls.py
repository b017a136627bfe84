# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Calls NCCL's functions; CUDA_LIBS is nccl_double.c, behind what it needs. Notes each call: name, the
code that it returned, how many kernels it launched, and what the trace should say of it."""
import ctypes
import os

LIBS = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in os.environ["CUDA_LIBS"].split(":")]
NOTES = []
FLOAT, HALF, LONG = 7, 6, 4


class Id(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_char * 128)]


def pointer(n):
    return ctypes.c_void_p(n)


def call(name, *args, launches=1, **shown):
    code = getattr(LIBS[-1], name)(*args)
    NOTES.append([name, code, launches, shown])


def size(n):
    return ctypes.c_size_t(n)


def open_comm(ranks, rank, blocking=True):
    comm = ctypes.c_void_p()
    call("ncclCommInitRank", ctypes.byref(comm), ranks, Id(b"b" if blocking else b"n"), rank,
         launches=0, nranks=ranks, rank=rank)
    NOTES[-1][3]["comm"] = hex(comm.value)
    return comm


def message(name, sent, received, kind, ranks, rank, **more):
    names = {FLOAT: "Float", HALF: "Half", LONG: "Long"}
    width = {FLOAT: 4, HALF: 2, LONG: 8}[kind]
    return {"Collective name": name, "In msg nelems": sent, "Out msg nelems": received,
            "In msg (bytes)": sent * width, "Out msg (bytes)": received * width,
            "dtype": names[kind], "Group size": ranks, "Rank": rank, **more}


def collectives(comm, ranks, rank):
    a, b, stream = pointer(0x1000), pointer(0x2000), pointer(0x77)
    call("ncclAllReduce", a, b, size(100), FLOAT, 0, comm, stream, **message(
        "allreduce", 100, 100, FLOAT, ranks, rank, op="ncclSum", stream="0x77"))
    call("ncclAllGather", a, b, size(10), HALF, comm, stream, **message(
        "allgather", 10, 10 * ranks, HALF, ranks, rank, sendcount=10))
    call("ncclReduceScatter", a, b, size(10), LONG, 2, comm, stream, **message(
        "reduce_scatter", 10 * ranks, 10, LONG, ranks, rank, op="ncclMax"))
    call("ncclBroadcast", a, b, size(5), FLOAT, 1, comm, stream, **message(
        "broadcast", 5, 5, FLOAT, ranks, rank, root=1))
    call("ncclReduce", a, b, size(5), FLOAT, 0, 1, comm, stream, **message(
        "reduce", 5, 5, FLOAT, ranks, rank, root=1, stream="0x77"))
    call("ncclGroupStart", launches=0)
    call("ncclSend", a, size(6), FLOAT, 3, comm, stream, launches=0, **message(
        "send", 6, 0, FLOAT, ranks, rank, peer=3))
    call("ncclRecv", b, size(7), FLOAT, 3, comm, stream, launches=0, **message(
        "recv", 0, 7, FLOAT, ranks, rank, peer=3))
    call("ncclGroupEnd")


def round_of(ranks, rank, blocking):
    comm = open_comm(ranks, rank, blocking)
    collectives(comm, ranks, rank)
    call("ncclAllReduce", None, None, size(0), FLOAT, 0, comm, None, launches=0, count=0)
    call("ncclCommDestroy", comm, launches=0)


def unknown():
    """A communicator that nobody saw being made; asked, it says what it is."""
    comm = (ctypes.c_int * 2)(8, 5)
    out = ctypes.c_int()
    call("ncclAllGather", None, None, size(3), FLOAT, comm, None,
         **{"In msg nelems": 3, "Out msg nelems": None, "Group size": None, "Rank": None})
    call("ncclCommCount", comm, ctypes.byref(out), launches=0, count=8)
    call("ncclCommUserRank", comm, ctypes.byref(out), launches=0, rank=5)
    call("ncclAllGather", None, None, size(3), FLOAT, comm, None,
         **message("allgather", 3, 24, FLOAT, 8, 5))


def workload(count):
    for i in range(int(count)):
        round_of(2 + i, i, i % 2)
    unknown()
    return {"calls": NOTES}
