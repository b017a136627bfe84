# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""merge of several hosts: clocks that are wrong, and what calls of NCCL tell of them."""
import json
import os
import struct
import subprocess
import zlib

from harness import interpreters, process, trace
from test_merge import record_together

HEADER = 312  # user/ingest/capture_format.h
CRC, REAL, HOST = 20, 32, 168
SECOND = 10**9
ROUNDS = 60


def double(t):
    library, version = t.path("ranks.so"), t.path("version")
    with open(version, "w") as file:
        file.write("libcudart.so.13 { global: *; };\n")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC",
                    os.path.join(process.PROGRAMS, "nccl_ranks_double.c"),
                    "-Wl,--version-script=" + version, "-o", library], check=True)
    return library


def record(t, count):
    """Captures of so many ranks, each by a recorder of its own."""
    with open(t.path("ranks"), "wb") as file:
        file.truncate(1 << 20)
    env = process.environment(CUDA_LIB=double(t), RANKS_FILE=t.path("ranks"))
    targets = [process.Target(interpreters.one(), "nccl_ranks", "%d,%d,%d" % (i, count, ROUNDS),
                              env=env) for i in range(count)]
    names = [t.path("rank%d.ptcap" % i) for i in range(count)]
    tracers = [process.Tracer("-p", target.pid, "-o", name)
               for target, name in zip(targets, names)]
    for said in record_together(t, targets, tracers):
        t.equal(said["rounds"], ROUNDS, "rounds")
    return names


def elsewhere(name, out, host, wrong_ns=0):
    """The same capture, as if another host had made it, whose clock is wrong by so much."""
    with open(name, "rb") as file:
        data = bytearray(file.read())
    real, = struct.unpack_from("<Q", data, REAL)
    struct.pack_into("<Q", data, REAL, real + wrong_ns)
    data[HOST:HOST + 64] = host.encode().ljust(64, b"\0")
    struct.pack_into("<I", data, CRC, 0)
    struct.pack_into("<I", data, CRC, zlib.crc32(data[:HEADER]))
    with open(out, "wb") as file:
        file.write(data)
    return out


def merge(t, names, *options):
    """(what it said, {host: what was done to its clock}, {rank's collectives: begins, real time})"""
    _, said = process.run_tool("merge", *names, "-o", t.path("all.json"), *options)
    got = trace.load(t.path("all.json"))
    base = got.document["baseTimeNanoseconds"]
    begins = {}
    for s in got.spans:
        if s.name == "ncclCommInitRank":
            begins.setdefault(s.args["rank"], []).append(base + s.begin)
    return said, {c["host"]: c for c in got.document.get("pytrace-bpf clocks", [])}, begins


def moved_by(before, after, rank):
    """All begins of the rank have moved by the same."""
    moves = {b - a for a, b in zip(before[rank], after[rank])}
    assert len(moves) == 1, moves
    return moves.pop()


def test_clock(t):
    """Three ranks on hosts whose clocks agree, or one is wrong, or cannot be; captures and traces."""
    names = record(t, 3)
    hosts = [elsewhere(names[i], t.path("h%d.ptcap" % i), "host%d" % i) for i in range(3)]
    said, clocks, begins = merge(t, hosts)
    t.has(said, "clocks compared by 2 communicators and %d collectives" % (ROUNDS + ROUNDS // 3))
    t.equal({h: c["moved by (ns)"] for h, c in clocks.items()},
            {"host0": 0, "host1": 0, "host2": 0}, "clocks that agree")
    for host in ("host1", "host2"):
        check_interval(t, clocks[host], 0)
        t.has(said, "clock of %s: as it is; by calls of NCCL it is off" % host)
    width = (clocks["host1"]["at most (ns)"] - clocks["host1"]["at least (ns)"]) / 1e6
    t.equal([clocks[h]["files that tell"] for h in sorted(clocks)], [1, 1, 1], "files that tell")

    for wrong in (5 * SECOND, -7 * SECOND):
        late = elsewhere(names[1], t.path("late.ptcap"), "host1", wrong)
        check_wrong(t, [hosts[0], late, hosts[2]], wrong, begins)
    check_options(t, [hosts[0], late, hosts[2]], wrong, begins)
    check_traces(t, [hosts[0], late, hosts[2]])
    twin = elsewhere(names[2], t.path("twin.ptcap"), "host1", wrong)
    said, clocks, after = merge(t, [hosts[0], hosts[1], twin])
    t.has(said, "calls of NCCL in files of the host host1 contradict each other")
    t.equal({c["moved by (ns)"] for c in clocks.values()}, {0}, "nothing is moved")
    t.equal(clocks["host0"]["not compared"], "the calls of NCCL contradict each other", "why")
    t.equal(moved_by(begins, after, 2), wrong, "the clock as it is")
    said, clocks, _ = merge(t, [hosts[0], hosts[0], late])
    t.has(said, "2 communicators of NCCL were not compared")
    t.equal(clocks["host1"]["at most (ns)"], None, "what is ambiguous")
    print("the clock of host1 was known to %.3f ms" % width)


def check_interval(t, clock, real):
    """What it really is lies in it."""
    t.check(clock["at least (ns)"] <= real <= clock["at most (ns)"], "%s is not in %s", real, clock)
    t.check(clock["comparisons"] > ROUNDS, "too few comparisons: %s", clock)


def check_wrong(t, files, wrong, begins):
    said, clocks, after = merge(t, files)
    clock = clocks["host1"]
    check_interval(t, clock, -wrong)
    t.check(clock["at least (ns)"] <= clock["moved by (ns)"] <= clock["at most (ns)"],
            "not within: %s", clock)
    t.equal(moved_by(begins, after, 1), wrong + clock["moved by (ns)"], "where its calls are")
    t.equal([moved_by(begins, after, i) for i in (0, 2)], [0, 0], "the others")
    t.has(said, "clock of host1: moved by %s" % ("-" if wrong > 0 else "+"))
    t.has(said, "clock of host2: as it is")


def check_options(t, files, wrong, begins):
    """--clock realtime, and one host alone: nothing is compared."""
    said, clocks, after = merge(t, files, "--clock", "realtime")
    t.equal((clocks, moved_by(begins, after, 1)), ({}, wrong), "by --clock realtime")
    t.check("clock" not in said, "it says: %s", said)
    _, said = process.run_tool("merge", files[1], files[1], "-o", t.path("one.json"))
    t.check("clock" not in said, "it says: %s", said)
    _, said = process.run_tool("merge", *files, "-o", t.path("no.json"), "--clock", "mine", code=2)
    t.has(said, "nccl|realtime")


def check_traces(t, files):
    """Traces tell the same as captures, as far as they have it all."""
    expected = merge(t, files)[1]
    tells = {"--gpu-bounds": expected["host1"]["moved by (ns)"], None: None, "--min-duration": 0}
    for option, moved in tells.items():
        names = []
        for i, name in enumerate(files):
            names.append(t.path("part%d.json" % i))
            process.run_tool("replay", name, "-o", names[-1], *([option] if option else []),
                             *(["10s"] if option == "--min-duration" else []))
        said, clocks, _ = merge(t, names)
        if moved is not None:
            t.equal(clocks["host1"]["moved by (ns)"], moved, "with %s" % option)
        if option is None:
            t.has(said, "clocks compared by 2 communicators and 0 collectives")
        if option == "--min-duration":
            t.has(said, "some of its events are missing (short CUDA calls left out)")
            t.has(said, "clocks are taken as they are")
