# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What the agent measures arrives: at a Prometheus that asks for it, at a VictoriaMetrics that it is
sent to. Nothing is lost while the collector, or the agent, is away."""
import base64
import gzip
import json
import os
import signal
import struct
import subprocess
import zlib

from harness import collectors, interpreters, process
from harness.runner import Skip
from test_agent import Agent, config, of, run, start


def spooled(folder):
    """The messages that wait there, in their order."""
    result = []
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".msg")):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        length, crc = struct.unpack_from("<II", data, 8)
        assert data[:8] == b"PTOUT1\n\0" and len(data) == 16 + length, name
        assert zlib.crc32(data[16:]) == crc, name
        result.append(gzip.decompress(data[16:]))
    return result


def read_messages(messages, program="otlp_read.py"):
    interp = next((i for i in interpreters.every() if i.root == collectors.TRIXIE), None)
    if not interp:
        raise Skip("there is no root with python3-opentelemetry-proto; scripts/interpreters.sh makes it")
    command = process.script(interp, program)
    text = b"\n".join(map(base64.b64encode, messages)) + b"\n"
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=process.environment(), timeout=process.WAIT_S)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.decode())


def leaf_calls(points, pid):
    return [value for name, labels, value in points if name == "pytrace_function_calls_total" and
            labels.get("process.pid") == pid and labels["function"] == "leaf"]


def test_prometheus(t):
    """promtool has nothing to say against /metrics, and Prometheus answers with the program's counts."""
    marker = "prometheus-%d" % os.getpid()
    address = "127.0.0.1:%d" % collectors.free_port()
    # first: it looks at its targets for the first time after 5 s
    prometheus = collectors.Prometheus(t, address).start()
    programs = start(marker, 1, 6, process.Copy(interpreters.one("3.11")))
    agent = Agent(t, config(marker, listen=address))
    (target, calls, exceptions, _), = programs
    run(agent, programs)
    wanted = {'pytrace_function_calls_total{pid="%d",function="leaf"}' % target.pid: calls,
              'pytrace_exceptions_total{pid="%d"}' % target.pid: exceptions,
              "sum(pytrace_calls_total)": calls + exceptions + 1, "up": 1}
    for query, value in wanted.items():
        agent.wait(lambda a: prometheus.value(query) == value, "%s to be %d" % (query, value))
    _, text = agent.ask("/metrics")
    lint = subprocess.run([collectors.program("promtool"), "check", "metrics"], input=text.encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    t.equal((lint.returncode, lint.stdout.decode()), (0, ""), "promtool")
    prometheus.stop()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")


def test_collector(t):
    """A collector is killed, the agent too; what they missed of each other comes later, all of it."""
    marker = "otlp-%d" % os.getpid()
    spool, headers = t.path("spool"), t.path("headers")
    with open(headers, "w") as file:
        file.write("X-Scope: test\n")
    os.chmod(headers, 0o600)
    collector = collectors.VictoriaMetrics(t).start()
    wish = config(marker, otlp={"endpoint": collector.url + "/opentelemetry", "interval": "200ms",
                                "headers_file": headers, "spool": {"dir": spool}})
    (target, calls, *_), = start(marker, 1, 7, process.Copy(interpreters.one("3.11")))
    query = 'pytrace_function_calls_total{function="leaf","process.pid"="%d"}' % target.pid
    agent = Agent(t, wish)
    agent.wait(lambda a: target.pid in a.recorded(), "it to be recorded")
    target.ask(b"x", "done")
    agent.wait(lambda a: collector.value(query) == calls, "its calls, at the collector")

    collector.stop(signal.SIGKILL)
    target.ask(b"x", "done")
    agent.wait(lambda a: of(a.metrics(), "pytrace_function_calls_total", function="leaf") ==
               2 * calls, "its calls, here")
    first = of(agent.metrics(), "pytrace_agent_otlp_waiting_messages")
    agent.wait(lambda a: of(a.metrics(), "pytrace_agent_otlp_waiting_messages") >= first + 3,
               "messages to wait")
    t.check(of(agent.metrics(), "pytrace_agent_otlp_retries_total", cause="unreachable") > 0,
            "it did not try")
    agent.tracer.stop(signal.SIGKILL)
    waiting = spooled(spool)
    t.check(len(waiting) >= 3, "%d messages are in files", len(waiting))
    read = read_messages(waiting)
    t.equal(leaf_calls(read[-1]["points"], target.pid), [2 * calls], "calls in the last message")
    broken = os.path.join(spool, "%020d.msg" % 0)  # the oldest of all
    with open(broken, "wb") as file:
        file.write(b"PTOUT1\n\0 and then nothing that makes sense")

    agent = Agent(t, wish)
    agent.wait(lambda a: target.pid in a.recorded(), "it to be recorded again")
    target.ask(b"x", "done")
    collector.start()
    agent.wait(lambda a: of(a.metrics(), "pytrace_agent_otlp_messages_total", result="sent") >=
               len(waiting), "the messages to be sent")
    agent.wait(lambda a: collector.value(query) == calls, "the calls that the next agent counts")
    got = agent.metrics()
    t.equal([of(got, "pytrace_agent_otlp_messages_total", result=r)
             for r in ("refused", "dropped", "corrupt")], [0, 0, 1], "refused, dropped, corrupt")
    (_, values), = collector.series(query)
    for message in read:
        value, = leaf_calls(message["points"], target.pid)
        t.equal(values.get(message["time"] // 1000000), value, "at %d" % message["time"])
    everything = collector.series('{__name__=~"pytrace_.*"}')
    at = read[-1]["time"] // 1000000
    t.equal(sum(at in values for _, values in everything), len(read[-1]["points"]),
            "series that have a value of the last message's time")
    target.kill()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")
    t.equal(spooled(spool), [], "what waits at the end")
    collector.stop()
