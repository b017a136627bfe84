# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Slow requests arrive at a collector, as OpenTelemetry's definitions have it: each one, no other, with its
time and what took it, against what the clients saw."""
import collections
import concurrent.futures
import gzip
import http.server
import os
import threading
import time

from harness import process
from test_agent import Agent, of
from test_otlp import read_messages
from test_requests import Server, with_servers

LIMIT_S, SLOW_S = 0.3, 0.5
MARGIN_S = 0.01  # the clocks are read at different times, and may be set meanwhile
# server, who handles it, the root's name, the server's function, what takes the time
CASES = (("wsgiref", "flask", "flask_app.<locals>.slow", "BaseHandler.run", "pause"),
         ("wsgiref", "django", "django_app.<locals>.slow", "BaseHandler.run", "pause"),
         ("gthread", "plain", "ThreadWorker.handle_request", "ThreadWorker.handle_request", "pause"),
         ("uvicorn", "plain", "RequestResponseCycle.run_asgi", "RequestResponseCycle.run_asgi", "wait"))

Asked = collections.namedtuple("Asked", "pid who slow begin end")


class Collector(http.server.ThreadingHTTPServer):
    """Takes everything, but not at the first time."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.traces, self.busy = [], 0
        self.url = "http://127.0.0.1:%d" % self.server_port
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        traces = self.path == "/base/v1/traces"
        assert traces or self.path == "/base/v1/metrics", self.path
        busy = traces and not self.server.busy
        self.server.busy += busy
        if traces and not busy:
            self.server.traces.append(body)
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def config(marker, collector, **traces):
    return {"listen": "127.0.0.1:0", "scan": "100ms", "record": {"engine": "exact"},
            "otlp": {"endpoint": collector.url + "/base", "interval": "200ms"},
            "rules": [{"command": "*%s*" % marker,
                       "traces": dict({"slower_than": "%dms" % (LIMIT_S * 1e3)}, **traces)}]}


def ask(server, who, seconds):
    begin = time.time()
    server.ask(who, seconds)
    return Asked(server.pid, who, seconds > LIMIT_S, begin, time.time())


def ask_all(name, server):
    """One after the other, so that it is clear which one a trace is of."""
    result = []
    for _, who, *_ in (case for case in CASES if case[0] == name):
        result += [ask(server, "plain", 0.01), ask(server, who, SLOW_S), ask(server, "plain", 0)]
    return result


def check_times(t, trace, asked):
    """The one that was asked then. The server's function may return long after the client has its answer."""
    root = trace["spans"][0]
    fits = [a for a in asked if a.pid == trace["resource"]["process.pid"] and
            a.begin - MARGIN_S <= root["start"] / 1e9 < a.end - MARGIN_S]
    t.equal(len(fits), 1, "requests at the start of %s" % root)
    took = (root["end"] - root["start"]) / 1e9
    t.check(took > LIMIT_S, "%s took %.3f s", root, took)
    t.check(not fits[0].slow or took >= SLOW_S - MARGIN_S, "%s took %.3f s", root, took)
    for span in trace["spans"][1:]:
        parent = trace["spans"][span["parent"]]
        t.check(parent["start"] <= span["start"] and span["end"] <= parent["end"],
                "%s is not in %s", span, parent)
        t.equal(span["kind"], "SPAN_KIND_INTERNAL", "kind of %s" % span)
    return fits[0]


def check_slow(t, trace, case):
    """Where the time of a request that was made slow went."""
    server, who, name, function, cause = case
    root, inner = trace["spans"][0], trace["spans"][1:]
    t.equal((root["name"], root["kind"]), (name, "SPAN_KIND_SERVER"), "the root")
    t.equal(root["attributes"]["pytrace.request"], function, "the server's function")
    t.equal(trace["resource"]["process.runtime.name"], "cpython", "runtime")
    t.equal(root["attributes"]["code.function.name"], name, "its code")
    parts = [s for s in inner if s["name"] == cause]
    took = sum(s["end"] - s["start"] for s in parts) / 1e9
    t.check(took >= SLOW_S - MARGIN_S, "%s took %.3f s in %s", cause, took, trace)
    t.equal(len(parts), 5 if server == "uvicorn" else 1, "parts of it")
    if server == "uvicorn":
        t.equal(parts[0]["attributes"], {"pytrace.category": "asyncio_wait"}, "attributes of a wait")
        return
    t.check(parts[0]["attributes"]["code.file.path"].endswith("/webapps.py"), "%s", parts[0])
    around = trace["spans"][parts[0]["parent"]]
    if who != "plain":
        t.equal(around["name"], name, "around the cause")


def test_traces(t):
    interp = with_servers()
    marker = "traces-%d" % os.getpid()
    collector = Collector()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        servers = dict(zip(("wsgiref", "gthread", "uvicorn"),
                           pool.map(lambda name: Server(interp, name, marker),
                                    ("wsgiref", "gthread", "uvicorn"))))
        agent = Agent(t, config(marker, collector))
        agent.wait(lambda a: {s.pid for s in servers.values()} <= set(a.recorded()),
                   "all to be recorded")
        asked = sum(pool.map(lambda item: ask_all(*item), servers.items()), [])
    slow = [a for a in asked if a.slow]

    def told(a):
        return of(a.metrics(), "pytrace_agent_slow_requests_total", result="told")
    agent.wait(lambda a: told(a) >= len(slow), "the slow ones to be told of")
    agent.wait(lambda a: collector.traces, "the collector to have got some")
    t.equal(agent.tracer.stop(), 0, "exit code")  # what waits is sent
    traces = read_messages(collector.traces, "otlp_spans.py")
    t.equal(len({trace["trace"] for trace in traces}), len(traces), "traces that came twice")
    t.equal(collector.busy, 1, "times that the collector was busy")
    found = collections.Counter()
    for trace in traces:
        a = check_times(t, trace, asked)
        found[a] += 1
        if a.slow:
            server = next(name for name, s in servers.items() if s.pid == a.pid)
            check_slow(t, trace, next(c for c in CASES if c[:2] == (server, a.who)))
    t.equal([found[a] for a in slow], [1] * len(slow), "traces of each slow request")
    t.check(not found or max(found.values()) == 1, "a request was told of twice: %s", found)
    collector.shutdown()
