# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The agent's recording grows, and another one takes its place: what was counted stays, what begins
is counted, and for how long nothing was is told."""
import json
import os
import signal

from harness import interpreters, process
from harness.runner import limit
from test_agent import BEARER, Agent, Download, captured, of, run, start, write_token
from test_agent_soak import wrong

GROWTH = 20100  # MODEL_MAX in user/agent/agent.c, and some
ROUNDS = 2


def rotations(agent):
    return of(agent.metrics(), "pytrace_agent_sessions_total", reason="rotate")


def leaves(metrics, target):
    return of(metrics, "pytrace_function_calls_total", pid=target.pid, function="leaf")


def counts_are_right(agent, programs):
    """Every call of theirs is counted, once."""
    last = []

    def right(a):
        last[:] = wrong(a.metrics(), programs)
        return not last
    try:
        agent.wait(right, "the metrics to be what the programs counted")
    except process.ToolError as error:
        raise process.ToolError("%s: (pid, what, metric, program) %s" % (error, last)) from None


@limit(240)
def test_rotate(t):
    marker = "rotate-%d" % os.getpid()
    agent = Agent(t, {"listen": "127.0.0.1:0", "scan": "100ms",
                      "record": {"engine": "exact", "exceptions": True},
                      "metrics": {"processes": 100, "functions": 1000, "keep_ended": "1h"},
                      "token_file": write_token(t), "captures": t.path("captures"),
                      "rules": [{"name": "mine", "command": "*%s*" % marker,
                                 "capture": {"on": ["signal:USR1"]}}]})
    before = start(marker, 4, 1)
    run(agent, before)
    counts_are_right(agent, before)
    over = start(marker, 4, 2)  # these wait over all that follows, and then do what they do
    interp = interpreters.one("3.12")
    grows = process.Target(interp, "many_functions",
                           command=process.script(interp, "many_functions.py", str(GROWTH), marker))
    agent.wait(lambda a: {p[0].pid for p in over} | {grows.pid} <= set(a.recorded()),
               "all to be recorded")
    grows.go()
    # it has more functions than are counted by name; this one came first
    agent.wait(lambda a: leaves(a.metrics(), grows), "its first calls")
    for i in range(ROUNDS):
        grows.ask(b"g", "grown")
        agent.wait(lambda a: rotations(a) > i, "another recording")
        agent.wait(lambda a: grows.pid in a.recorded(), "its processes")
    run(agent, over)
    after = start(marker, 4, 3)
    run(agent, after)
    counts_are_right(agent, before + over + after)
    # the flight recorder has gone from one to the other, too
    t.equal(agent.ask("/capture?pid=%d" % grows.pid, "POST", BEARER)[0], 202, "a capture")
    capture = Download(t, agent, captured(agent, "mine", "http")[0])
    t.check(capture.trace.named("leaf"), "the capture has no call")
    own, = json.loads(grows.ask(b"q", "done").partition(" ")[2])
    last = {}

    def within(a):
        """What is missing fits into the time in which nothing was recorded, a call a millisecond."""
        got = last["got"] = a.metrics()
        last["missing"] = own - leaves(got, grows)
        gap_ms = last["gap_ms"] = 1000 * of(got, "pytrace_agent_gap_seconds_total")
        return -ROUNDS <= last["missing"] <= gap_ms + 2 * ROUNDS
    try:
        agent.wait(within, "the calls over all recordings")
    finally:
        print("%d of %d calls are missing, %d recordings, %.1f ms between them" % (
            last["missing"], own, ROUNDS + 1, last["gap_ms"]))
    for cause in ("buffer_full", "records", "no_thread_memory"):
        t.equal(of(last["got"], "pytrace_agent_lost_total", cause=cause), 0, "lost by " + cause)
    t.equal(rotations(agent), ROUNDS, "recordings that took another's place")
    grows.finish()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")
