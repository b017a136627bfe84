# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Prometheus and VictoriaMetrics, of the Debian roots that scripts/interpreters.sh makes; on loopback."""
import json
import os
import random
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from . import interpreters, process
from .runner import Skip

TRIXIE = interpreters.CACHE + "/roots/trixie"
BULLSEYE = interpreters.CACHE + "/roots/bullseye"


def program(name):
    path = "%s/usr/bin/%s" % (TRIXIE if name == "victoria-metrics" else BULLSEYE, name)
    if not os.access(path, os.X_OK):
        raise Skip("%s is not there; scripts/interpreters.sh makes it" % path)
    return path


def free_port():
    """None that the kernel gives to a client meanwhile: those begin at 32768."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Service:
    """start() waits until it answers; it may be started again at the same place."""

    def __init__(self, t, name):
        self.name, self.port, self.folder = name, free_port(), t.path(name)
        self.log = t.path(name + ".log")
        self.url = "http://127.0.0.1:%d" % self.port
        self.popen = None

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log, env=dict(os.environ, GOMAXPROCS="1"))
        process.wait_until(self.answers, self.name)
        return self

    def answers(self):
        if self.popen.poll() is not None:
            with open(self.log, errors="replace") as log:
                raise process.ToolError("%s ended: %s" % (self.name, log.read()[-2000:]))
        try:
            return self.ask("/-/ready") is not None
        except (OSError, urllib.error.URLError):
            return False

    def ask(self, path, **query):
        with urllib.request.urlopen(self.url + path + ("?" + urllib.parse.urlencode(query) if query
                                                       else ""), timeout=process.WAIT_S) as answer:
            return answer.read().decode()

    def value(self, query):
        """Of the only series that it finds; None: there is none."""
        found = json.loads(self.ask("/api/v1/query", query=query, **self.newest))["data"]["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def stop(self, sig=signal.SIGTERM):
        self.popen.send_signal(sig)
        self.popen.wait(process.WAIT_S)

    newest = {}


class Prometheus(Service):
    def __init__(self, t, target):
        super().__init__(t, "prometheus")
        self.config = t.path("prometheus.json")  # JSON is YAML
        with open(self.config, "w") as file:
            json.dump({"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
                       "scrape_configs": [{"job_name": "agent",
                                           "static_configs": [{"targets": [target]}]}]}, file)

    def command(self):
        return [program("prometheus"), "--config.file=" + self.config,
                "--storage.tsdb.path=" + self.folder,
                "--web.listen-address=127.0.0.1:%d" % self.port]


class VictoriaMetrics(Service):
    newest = {"latency_offset": "1ms", "nocache": "1"}

    def __init__(self, t):
        super().__init__(t, "victoria-metrics")

    def command(self):
        return [program("victoria-metrics"), "-storageDataPath=" + self.folder,
                "-httpListenAddr=127.0.0.1:%d" % self.port, "-memory.allowedBytes=64MB"]

    def value(self, query):
        self.ask("/internal/force_flush")  # what came is found at once, not seconds later
        return super().value(query)

    def series(self, match):
        """[(labels, {time in ms: value})]"""
        self.ask("/internal/force_flush")
        lines = self.ask("/api/v1/export", **{"match[]": match}).splitlines()
        return [(row["metric"], dict(zip(row["timestamps"], row["values"])))
                for row in map(json.loads, lines)]
