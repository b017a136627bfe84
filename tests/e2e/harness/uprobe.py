# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A witness that is not ours: perf's uprobe, which tells two registers whenever an instruction of a
file runs. It needs neither BPF nor a tracefs."""
import ctypes
import mmap
import os
import struct

ATTR = struct.Struct("<IIQQQQQIIQQQQIiQIHH")  # struct perf_event_attr, include/uapi/linux/perf_event.h
SAMPLE_TID, SAMPLE_REGS_USER = 1 << 1, 1 << 12
RECORD_LOST, RECORD_SAMPLE = 2, 9
FLAG_FD_CLOEXEC = 8
DX, SI = 3, 4  # enum perf_event_x86_regs
PAGES = 1024   # of data, for each CPU: 100,000 hits
PMU = "/sys/bus/event_source/devices/uprobe/type"
SYS_perf_event_open = 298

libc = ctypes.CDLL(None, use_errno=True)


def online():
    with open("/sys/devices/system/cpu/online") as file:
        for part in file.read().split(","):
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


class Uprobe:
    """From its making to read()."""

    def __init__(self, path, offset):
        with open(PMU) as file:
            pmu = int(file.read())
        name = ctypes.create_string_buffer(os.fsencode(os.path.realpath(path)))
        attr = ctypes.create_string_buffer(ATTR.pack(
            pmu, ATTR.size, 0, 1, SAMPLE_TID | SAMPLE_REGS_USER, 0, 0, 0, 0,
            ctypes.addressof(name), offset, 0, 1 << DX | 1 << SI, 0, 0, 0, 0, 0, 0), ATTR.size)
        self.rings = []
        try:
            for cpu in online():
                fd = libc.syscall(SYS_perf_event_open, attr, -1, cpu, -1, FLAG_FD_CLOEXEC)
                if fd < 0:
                    error = ctypes.get_errno()
                    raise OSError(error, "perf_event_open: " + os.strerror(error))
                self.rings.append((fd, mmap.mmap(fd, (1 + PAGES) * mmap.PAGESIZE)))
        except OSError:
            self.close()
            raise

    def read(self, pid):
        """(si, dx) of the process's hits, CPU by CPU. Ends it."""
        found = []
        for _, ring in self.rings:
            head, = struct.unpack_from("<Q", ring, 1024)  # data_head
            at, end = mmap.PAGESIZE, mmap.PAGESIZE + head
            assert head < PAGES * mmap.PAGESIZE, "the buffer is full"
            while at < end:
                kind, _, size = struct.unpack_from("<IHH", ring, at)
                assert kind != RECORD_LOST, "hits are lost"
                if kind == RECORD_SAMPLE:
                    whose, _, abi, dx, si = struct.unpack_from("<IIQQQ", ring, at + 8)
                    assert abi == 2, "not a 64-bit process"
                    if whose == pid:  # others use the same file
                        found.append((si, dx))
                at += size
        self.close()
        return found

    def close(self):
        for fd, ring in self.rings:
            ring.close()
            os.close(fd)
        self.rings = []
