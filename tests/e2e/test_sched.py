# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Thread states (--sched). The witness is the kernel's own accounting: the context switches of
each thread (/proc), its CPU time, and what the program did. trace.load() holds
that the states of a thread come one after the other, without a gap or an overlap."""
import json
import os
import signal
import struct
import subprocess
import time

from harness import interpreters, process, trace
from harness.runner import alone, each
from test_runtime import record

STATES = ("running", "runnable", "blocked")


def within(states, begin, end):
    return [s for s in states if begin <= s.begin < end]


def parts(states, begin, end):
    """ns that each state has of [begin, end]."""
    result = dict.fromkeys(STATES, 0)
    for s in states:
        inside = min(s.end, end) - max(s.begin, begin)
        if inside > 0 and s.name != "states lost":
            result[s.name.split(":")[0]] += inside
    return result


def lost(got):
    """How many records are missing, by thread."""
    return {key: sum(s.args["records"] for s in states if s.name == "states lost")
            for key, states in got.states.items()}


def switches(states):
    """(voluntary, others): as the kernel counts them, sched_yield() is one of the others."""
    blocked = sum(s.name.startswith("blocked") for s in states)
    return blocked, sum(s.name == "runnable" and s.args["after"] != "it was woken" for s in states)


@alone  # beside others it is more often that the kernel does not tell of a switch
@each(interp=interpreters.every)
def test_states(t, interp):
    """As many switches of each kind as the kernel counted, and no less time on or in wait
    of a CPU than the thread's CPU time."""
    got, result, pid, _ = record(t, interp, "--sched", "--follow=no", program="states")
    t.check(not any(got.holes.values()), "times without a state: %s", got.holes)
    untold = lost(got)
    t.equal(got.document["pytrace-bpf summary"]["lost thread states"], sum(untold.values()),
            "states lost")
    # bpf/sched.h, sched_count(): it is rare, and says so; the other threads' are compared
    t.check(sum(untold.values()) <= 30 and sum(map(bool, untold.values())) <= 2,
            "the kernel left out %s switches", untold)
    for name, tid, before, after, cpu in result["asked"]:
        states = got.states[pid, tid]
        if untold[pid, tid]:
            continue
        first, last = sorted((s for s in got.named("status") if s.event["tid"] == tid),
                             key=lambda s: s.begin)
        inner = switches(within(states, first.end, last.begin))
        outer = switches(within(states, first.begin, last.end))
        for i, kind in enumerate(("voluntary", "nonvoluntary")):
            counted = after[i] - before[i]
            t.check(inner[i] <= counted <= outer[i], "%s: %d %s switches, counted %d to %d: %s",
                    name, counted, kind, inner[i], outer[i],
                    [(s.name, (s.begin - first.begin) // 1000, (s.end - s.begin) // 1000, s.args)
                     for s in within(states, first.begin, last.end)])
        call, = [s for s in got.named(name) if s.event["tid"] == tid]
        shares = parts(states, call.begin, call.end)
        t.equal(sum(shares.values()), call.end - call.begin, "%s: the states cover the call" % name)
        whole = parts(states, first.begin, last.end)
        # a virtual CPU may stand still between the kernel's reading of the clock and ours
        t.check(whole["running"] + whole["runnable"] >= cpu, "%s: %s, and its CPU time is %d",
                name, whole, cpu)
        check_call(t, name, within(states, call.begin, call.end), result)


def check_call(t, name, states, result):
    names = [s.name for s in states]
    if name == "nap":
        # time.sleep() is select() up to 3.10, which glibc makes of pselect6() from 2.34 on
        naps = [s for s in states if s.name in ("blocked: clock_nanosleep", "blocked: pselect6",
                                                "blocked: select")]
        t.equal(len(naps), result["naps"], "naps among %s" % names)
        t.check(all(s.end - s.begin > 0.9 * result["nap_ns"] for s in naps), "a short nap")
    elif name == "wait_for_lock":
        t.check("blocked: futex" in names, "the lock: %s", names)
    elif name == "wait_for_pipe":
        t.check("blocked: read" in names, "the pipe: %s", names)


def test_states_launched(t):
    """From a process's first call to its end; a thread that sleeps when recording ends is blocked up
    to then; fork's children have states too; the totals in the report are those of the trace."""
    interp = interpreters.one()
    code = ("import os, threading, time\n"
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
            "if not os.fork():\n    time.sleep(0.02)\n    os._exit(0)\n"
            "os.wait()\ntime.sleep(0.01)\nos._exit(0)")
    process.run_tool("--sched", "--follow=exact", "-o", t.path("a.ptcap"), "--", *interp.command("-c", code))
    process.run_tool("replay", t.path("a.ptcap"), "-o", t.path("a.json"))
    got = trace.load(t.path("a.json"))
    t.equal(len({pid for pid, _ in got.states}), 2, "processes with states")
    t.check(not any(got.holes.values()), "times without a state: %s", got.holes)
    for (pid, tid), states in got.states.items():
        module = [s for s in got.named("<module>") if s.event["tid"] == tid]
        if module:
            t.check(states[-1].end >= module[-1].end, "the states end before the calls")
    out = [json.loads(process.run_tool("report", t.path(name), "--json")[0])
           for name in ("a.json", "a.ptcap")]
    for report in out:
        rows = {(row["pid"], row["tid"]): row for row in report["threads"]}
        for key, states in got.states.items():
            shares = parts(states, 0, 1 << 62)
            for state in STATES:
                t.equal(rows[key][state + "_ns"], shares[state], "%s of %s" % (state, key))


def test_states_end(t):
    """At the end of a recording that does not end with the process what goes on then ends there, in
    every thread."""
    interp = interpreters.one()
    target = process.Target(interp, "contends", "2", "60")
    tracer = process.Tracer("-p", target.pid, "--sched", "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    process.wait_until(lambda: target.out.count("busy") == 2, "the threads")
    target.rests("futex", forever=True)  # in join()
    tracer.expect(0, stop=True)
    target.kill()
    got = trace.load(t.path("trace.json"))
    t.check(not any(got.holes.values()), "times without a state: %s", got.holes)
    t.equal(len(got.states), 3, "threads")
    t.equal(len({states[-1].end for states in got.states.values()}), 1, "ends")
    t.check("blocked: futex" in [states[-1].name for states in got.states.values()],
            "somebody waits for the threads")


def test_states_lost(t):
    """With a buffer that is much too small: counted, and shown where it was."""
    interp = interpreters.one()
    target = process.Target(interp, "states", "many")
    tracer = process.Tracer("-p", target.pid, "--sched", "--buffer", "64K", "-o",
                            t.path("trace.json"), "--control", t.path("socket"))
    tracer.recording()
    tracer.popen.send_signal(signal.SIGSTOP)
    target.go()
    target.done()
    tracer.popen.send_signal(signal.SIGCONT)
    process.drained(t.path("socket"))  # the thread's next record tells what is missing before it
    t.equal(target.finish(), 0, "exit status of the target")
    tracer.expect(6)
    got = trace.load(t.path("trace.json"))
    lost = got.document["pytrace-bpf summary"]["lost thread states"]
    states = got.states[target.pid, target.pid]
    shown = [s.args["records"] for s in states if s.name == "states lost"]
    t.check(lost > 1000 and sum(shown) == lost, "%d states lost, shown %s", lost, shown)
    t.check(not any(got.holes.values()), "times without a state: %s", got.holes)


SWITCHES = 64  # offset of pt_sched.switches, include/pt_maps.h


def set_back_switches(tid, by):
    """As if the kernel had switched that often from the thread without telling."""
    def bpftool(*args):
        return json.loads(subprocess.check_output(["bpftool", "-j", "map", *args]) or "null")

    maps = [m["id"] for m in bpftool("show") if m.get("name") == "sched"]
    assert len(maps) == 1, maps
    where = ["id", str(maps[0]), "key", *("0x%02x" % b for b in struct.pack("<I", tid))]
    value = bytearray(int(b, 16) for b in bpftool("lookup", *where)["value"])
    count, = struct.unpack_from("<I", value, SWITCHES)
    with open("/proc/%d/status" % tid) as file:
        kernel = sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    assert count == kernel, (count, kernel)
    struct.pack_into("<I", value, SWITCHES, count - by)
    bpftool("update", *where, "value", *("0x%02x" % b for b in value))


@alone  # there is no other map of that name
@each(untold=[0, 1, 3])
def test_states_untold(t, untold):
    """Switches that the kernel counts and does not tell of are counted as lost, where they were."""
    target = process.Target(interpreters.one(), "callforms")
    tracer = process.Tracer("-p", target.pid, "--sched", "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    target.done()
    target.rests()
    set_back_switches(target.pid, untold)
    t.equal(target.finish(), 0, "exit status of the target")
    tracer.expect(0)
    got = trace.load(t.path("trace.json"))
    states = got.states[target.pid, target.pid]
    lost = [s.args["records"] for s in states if s.name == "states lost"]
    read = [s.name for s in states if s.name.startswith("blocked: read")]
    # the turn in which they came is not whole either
    t.equal((lost[-1:], read), ([untold + 1], []) if untold else (lost[-1:], ["blocked: read"]),
            "lost, and the wait that would have been told of")
    t.equal(got.document["pytrace-bpf summary"]["lost thread states"], sum(lost), "counted")
    t.check(not any(got.holes.values()), "times without a state: %s", got.holes)


def test_states_paused(t):
    """What happens only in a pause is not there; what goes into it or out of it is, whole."""
    target = process.Target(interpreters.one(), "contends", "3", "60")
    tracer = process.Tracer("-p", target.pid, "--sched", "--control", t.path("socket"),
                            "-o", t.path("trace.json"))
    tracer.recording()
    target.go()
    process.wait_until(lambda: target.out.count("busy") == 3, "the threads")
    for command in "status", "pause", "resume", "status":
        time.sleep(0.3)
        process.run_tool("ctl", "--socket", t.path("socket"), command)
    tracer.expect(0, stop=True)
    target.kill()
    got = trace.load(t.path("trace.json"))
    pause, resume = sorted(e["ts"] for e in got.events if e.get("cat") == "control")
    holes = [(key, a.end, b.begin) for key, states in got.states.items()
             for a, b in zip(states, states[1:]) if a.end != b.begin]
    t.check(holes, "nobody ran in the pause")
    t.equal(len({key for key, _, _ in holes}), len(holes), "threads, each with one hole at most")
    for _, begin, end in holes:
        t.check(pause <= begin and end <= resume, "nothing from %d to %d, paused from %d to %d",
                begin, end, pause, resume)


@alone
def test_states_of_a_window(t):
    """--start-on: only within the calls that are recorded."""
    interp = interpreters.one()
    got, result, pid, _ = record(t, interp, "--sched", "--start-on", "nap", program="states")
    tid, = [tid for name, tid, *_ in result["asked"] if name == "nap"]
    t.equal(set(got.states), {(pid, tid)}, "threads with states")
    call, = got.named("nap")
    states = got.states[pid, tid]
    t.check(call.begin - 1_000_000 < states[0].begin and states[-1].end < call.end + 1_000_000,
            "%d .. %d, and the call is %d .. %d", states[0].begin, states[-1].end, call.begin,
            call.end)
    naps = [s for s in states if s.name.startswith("blocked") and s.end - s.begin > 5_000_000]
    told = lost(got)[pid, tid]
    t.check(len(naps) <= result["naps"] <= len(naps) + told,
            "%d naps of %d, and %d states lost", len(naps), result["naps"], told)
    t.check(told <= 2, "the kernel left out %d switches", told)


def test_states_off(t):
    interp = interpreters.one()
    got, _, _, _ = record(t, interp, program="states")
    t.equal(got.states, {}, "states without --sched")
    t.check("thread states" not in got.document["pytrace-bpf summary"], "they are counted")
