# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Ranks of a distributed job: the trace of each of its processes says which one it is, by the rule of
Holistic Trace Analysis. That NCCL tells it is tried in test_cuda.py."""
import glob
import gzip
import json
import re

from harness import hta, interpreters, process
from harness.runner import each

WORLD = 3
NONE = {"rank": 0, "rank from": "nothing: none is known"}


def of_rank(rank, world=WORLD):
    return {"rank": rank, "world_size": world, "rank from": "the environment"}


def record(t, out):
    """A job of three processes, and one more that is none of it, which are recorded together."""
    targets = [process.Target(interpreters.one(), "unicode_names", env=process.environment(
        **({"RANK": str(rank), "WORLD_SIZE": str(WORLD)} if rank < WORLD else {})))
        for rank in range(WORLD + 1)]
    tracer = process.Tracer("-p", ",".join(str(target.pid) for target in targets), "-o", t.path(out))
    tracer.recording()
    for target in targets:
        target.go()
    for target in targets:
        target.out.wait("done", "the target")
    err = tracer.expect(0, stop=True)
    for target in targets:
        t.equal(target.finish(), 0, "exit status of the target")
    return [target.pid for target in targets], err


def load(path):
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as file:
        return json.load(file)


def ranks_in_labels(document):
    found = {}
    for e in document["traceEvents"]:
        if e["ph"] == "M" and e["name"] == "process_labels":
            rank = re.search(r"\(rank (\d+) of %d\)$" % WORLD, e["args"]["labels"])
            found[e["pid"]] = int(rank.group(1)) if rank else None
    return found


def check_files(t, pattern, pids):
    infos = []
    for pid in pids:
        path, = glob.glob(t.path(pattern.replace("%p", str(pid))))
        infos.append(load(path)["distributedInfo"])
        t.equal(hta.rank_of(path), infos[-1]["rank"], "by HTA")
        hta.check(path)
    t.equal(infos, [of_rank(rank) for rank in range(WORLD)] + [NONE], "of each process")


def test_files(t):
    """One trace a process."""
    pids, err = record(t, "trace-%p.json.gz")
    check_files(t, "trace-%p.json.gz", pids)
    t.check("several ranks" not in err, "it says:\n%s", err)


def test_capture(t):
    """From a capture: one trace a process; and one of all, which says that this is so."""
    pids, _ = record(t, "raw.ptcap")
    process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("part-%p.json"))
    check_files(t, "part-%p.json", pids)
    _, err = process.run_tool("replay", t.path("raw.ptcap"), "-o", t.path("all.json"))
    t.has(err, "several ranks are in one trace", "it for rank 0")
    document = load(t.path("all.json"))
    found = ranks_in_labels(document)
    t.equal([found[pid] for pid in pids], [*range(WORLD), None], "labels")
    t.equal(document["distributedInfo"], of_rank(0), "of all together")


@each(env=["RANK=1 WORLD_SIZE=2", "RANK=2", "RANK=2 WORLD_SIZE=2"])
def test_launched(t, env):
    """What is no rank is not taken for one (more of that in tests/unit/test_rank.c)."""
    process.run_tool("-o", t.path("trace.json"), "--", *interpreters.one().command("-c", "pass"),
                     env=process.environment(**dict(word.split("=") for word in env.split())))
    t.equal(load(t.path("trace.json"))["distributedInfo"],
            of_rank(1, 2) if env.startswith("RANK=1") else NONE, "of the trace")
    hta.check(t.path("trace.json"))
