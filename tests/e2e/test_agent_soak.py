# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The agent for a long time, among processes that start, work, crash and end at random: most often a
short time with few of them; make soak-agent takes ten minutes with a hundred."""
import collections
import os
import random
import signal
import subprocess
import time

from harness import interpreters, process
from harness.runner import limit
from test_agent import Agent, let_run, of, start, total

SOAK_S = float(os.environ.get("PYTRACE_AGENT_SOAK_S", "0"))
COUNTED, RESTLESS = (100, 20) if SOAK_S else (6, 4)
REMOVAL_S = 20 * process.WAIT_S  # of the probes of all: a second or two for each process on 6.18
# Of the agent's own memory, from when it keeps as many processes that have ended as it may.
GROWTH_MAX_KB = 32768
KEPT = 300 if SOAK_S else 1000
FULL = 3 if SOAK_S else 2  # rounds until then


def open_things(pid):
    """How many files of each kind a process has open: sockets and files by kind, maps, programs, links,
    perf events by name."""
    kinds = collections.Counter()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            kinds[os.readlink("/proc/%d/fd/%s" % (pid, fd)).split(":[")[0]] += 1
        except OSError:
            pass  # closed meanwhile
    return kinds


def anonymous_kb(pid):
    with open("/proc/%d/status" % pid) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))


def let_loose(marker, count, seed, seconds):
    """Processes that nobody waits for, of any version."""
    found = [interpreters.one(v) for v in ("3.8", "3.11", "3.12", "3.13")]
    result = []
    for i in range(count):
        interp = found[(seed + i) % len(found)]
        command = process.script(interp, "restless.py", str(1000 * seed + i), str(seconds), marker)
        result.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env=process.environment()))
    return result


def wait(agent, condition, what):
    def check():
        time.sleep(0.05)
        return condition(agent)
    process.wait_until(check, what, REMOVAL_S if SOAK_S else process.WAIT_S)


def missing(agent, programs):
    have = agent.recorded()
    return [p[0].pid for p in programs if p[0].pid not in have]


def sessions(metrics):
    return total(metrics, "pytrace_agent_sessions_total")


def wrong(metrics, programs):
    """What the metrics say otherwise than the programs: [(pid, function, metric, program)]. Of the rest of
    what is counted they cannot tell: they may be found while they still start."""
    result = []
    for target, calls, exceptions, _ in programs:
        for function, own in (("leaf", calls), ("raising", exceptions), ("work", 1)):
            got = of(metrics, "pytrace_function_calls_total", pid=target.pid, function=function)
            if got != own:
                result.append((target.pid, function, got, own))
    return result


def one_round(t, agent, marker, seed):
    """One lot of counted processes from their start to their end, beside others. True: the counts could
    be compared, since the recording was not begun anew meanwhile."""
    loose = let_loose(marker, RESTLESS, seed, 3 if SOAK_S else 1)
    programs = start(marker, COUNTED, seed)
    wait(agent, lambda a: not missing(a, programs), "each process to be recorded")
    before = sessions(agent.metrics())
    still = not missing(agent, programs)
    let_run(programs)
    last = {}

    def right(a):
        last["metrics"] = a.metrics()
        return not still or sessions(last["metrics"]) != before or not wrong(last["metrics"],
                                                                             programs)
    try:
        wait(agent, right, "the metrics to be what the programs counted")
    except process.ToolError as error:
        raise process.ToolError("%s: (pid, what, metric, program) %s" % (
            error, wrong(last["metrics"], programs)[:10])) from None
    for popen in loose:
        popen.wait(process.WAIT_S)
    return still and sessions(last["metrics"]) == before


def wait_empty(agent, sessions_before):
    """A new recording, in which there is no process."""
    agent.tracer.popen.send_signal(signal.SIGHUP)
    process.wait_until(lambda: sessions(agent.metrics()) > sessions_before and
                       not agent.recorded(), "a recording of nothing", REMOVAL_S)


def settled(agent, before=None):
    """What it has open, once that is as it was before; or, of a recording that has begun, once that
    stays as it is."""
    seen = [open_things(agent.tracer.pid)]

    def stays():
        seen.append(open_things(agent.tracer.pid))
        if before is not None:
            return seen[-1] == before
        return seen[-1]["anon_inode:bpf_link"] and seen[-10:] == 10 * [seen[-1]]
    try:
        process.wait_until(stays, "its descriptors", 20)
    except process.ToolError:
        pass
    return seen[-1]


def config(marker):
    return {"listen": "127.0.0.1:0", "scan": "100ms", "record": {"engine": "exact", "exceptions": True},
            "metrics": {"processes": KEPT, "functions": 1000, "keep_ended": "1h"},
            "rules": [{"name": "mine", "command": "*%s*" % marker}]}


def killed_and_restarted(t, marker):
    """An agent that is killed, and the next one, leave the code of each process as it was."""
    programs = start(marker, COUNTED // 2, 7)
    before = [process.text_of(p[0].pid) for p in programs]

    def all_clean():
        return all(process.text_differences(b, process.text_of(p[0].pid)) == 0
                   for b, p in zip(before, programs))
    for sig in (signal.SIGKILL, signal.SIGTERM):
        agent = Agent(t, config(marker))
        wait(agent, lambda a: not missing(a, programs), "each process to be recorded")
        t.check(not all_clean(), "there were no probes")
        for target, *_ in programs:
            target.ask(b"x", "done")
        agent.tracer.stop(sig, REMOVAL_S)
        process.wait_until(all_clean, "the code to be as it was", REMOVAL_S)
    for target, *_ in programs:
        target.ask(b"x", "done")
        target.kill()


@limit(SOAK_S + 1200 if SOAK_S else 180)
def test_soak(t):
    """Nothing missed, nothing miscounted, nothing left: neither in the agent nor in a process."""
    marker = "soak-%d" % os.getpid()
    agent = Agent(t, config(marker))
    chance = random.Random(os.getpid() if SOAK_S else 1)
    compared = rounds = 0
    end, at_first, kb = time.monotonic() + SOAK_S, None, 0
    while True:
        compared += one_round(t, agent, marker, chance.randrange(1 << 20))
        rounds += 1
        if rounds <= FULL:
            wait(agent, lambda a: not a.recorded(), "all to have ended")
            wait_empty(agent, sessions(agent.metrics()))
            at_first, kb = settled(agent), anonymous_kb(agent.tracer.pid)
        if time.monotonic() >= end and rounds >= (5 if SOAK_S else 2):
            break
    got = agent.metrics()
    wait(agent, lambda a: not a.recorded(), "all to have ended")
    grown = []
    for _ in range(5 if SOAK_S else 1):  # malloc keeps now more, now less, by some 20 MB
        wait_empty(agent, sessions(agent.metrics()))
        t.equal(settled(agent, at_first), at_first, "what the agent has open at the end")
        grown.append(anonymous_kb(agent.tracer.pid) - kb)
    grown = min(grown)
    t.check(grown < GROWTH_MAX_KB, "its memory grew by %d kB", grown)
    t.check(compared > 0, "no round could be compared")
    for cause in ("buffer_full", "records", "no_thread_memory"):
        t.equal(of(got, "pytrace_agent_lost_total", cause=cause), 0, "lost by " + cause)
    t.equal(of(got, "pytrace_agent_attach_failures_total", reason="other"), 0, "failures")
    t.equal(agent.tracer.stop(signal.SIGTERM, REMOVAL_S), 0, "exit code")
    killed_and_restarted(t, marker)
    print("%d rounds of %d processes, %d compared; %d attached in %d recordings; memory %+d kB" % (
        rounds, COUNTED, compared, of(got, "pytrace_agent_attached_total"), sessions(got), grown))
