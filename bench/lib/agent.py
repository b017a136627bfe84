# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What the agent costs, by engine: by itself while what it records is idle, and a web server under load. Debian's gunicorn serves a small WSGI application with one
worker, ApacheBench asks; in each round once without the agent and once with it, in turns."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

from lib import proc, stats

ENGINES = ("exact", "sample")
LIMIT_IDLE_PERCENT = 0.1
LIMIT_MIB = 100
LIMIT_WEB_PERCENT = 1
IDLE = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(1000)"
APPLICATION = """
import json
ROWS = [{"id": i, "name": "row %d" % i} for i in range(20)]
def rows(): return [dict(r, odd=bool(r["id"] % 2)) for r in ROWS]
def app(environ, start_response):
    body = json.dumps(rows()).encode()
    start_response("200 OK", [("Content-Type", "application/json"),
                              ("Content-Length", str(len(body)))])
    return [body]
"""


class Agent:
    """The agent, recording what has the word in its arguments; count processes are waited for."""

    def __init__(self, tool, folder, word, count, engine):
        self.path = os.path.join(folder, "agent.json")
        with open(self.path, "w") as file:
            json.dump({"listen": "127.0.0.1:0", "record": {"engine": engine},
                       "rules": [{"command": "*%s*" % word}]}, file)
        self.child = subprocess.Popen([tool, "agent", "--config", self.path], text=True,
                                      stderr=subprocess.PIPE)
        for line in self.child.stderr:
            found = re.search(r"answers at (http://\S+);", line)
            if found:
                break
        else:
            raise proc.BenchError("the agent did not start")
        end = time.monotonic() + proc.ANSWER_SECONDS
        while len(json.loads(self._get(found[1] + "/processes"))["recorded"]) < count:
            if time.monotonic() > end:
                raise proc.BenchError("the agent does not record %d processes" % count)
            time.sleep(0.1)

    @staticmethod
    def _get(url):
        with urllib.request.urlopen(url, timeout=proc.ANSWER_SECONDS) as answer:
            return answer.read().decode()

    def cpu_ns(self):
        """Of all its threads."""
        total = 0
        for thread in os.listdir("/proc/%d/task" % self.child.pid):
            with open("/proc/%d/task/%s/schedstat" % (self.child.pid, thread)) as file:
                total += int(file.read().split()[0])
        return total

    def resident_mib(self):
        with open("/proc/%d/status" % self.child.pid) as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.child.terminate()
        self.child.wait()
        self.child.stderr.close()


def idle(tool, interpreters, engine, count, seconds):
    """CPU of the agent, in percent of one, second by second, and its memory."""
    word, folder = "bench-idle-%d" % os.getpid(), tempfile.mkdtemp(prefix="pytrace-bench-")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for i in range(count):
            command = interpreters[i % len(interpreters)].command("-c", IDLE, word)
            target = stack.enter_context(proc.Process(command))
            target.lines.next(proc.ANSWER_SECONDS)
        agent = stack.enter_context(Agent(tool, folder, word, count, engine))
        time.sleep(3)  # it has looked at what came last
        shares, before, at = [], agent.cpu_ns(), time.monotonic()
        for _ in range(seconds):
            time.sleep(1)
            now, then = agent.cpu_ns(), time.monotonic()
            shares.append((now - before) / (then - at) / 1e7)
            before, at = now, then
        return {"what": "idle", "engine": engine, "processes": count, "cpu_percent": stats.summary(shares),
                "resident_mib": round(agent.resident_mib(), 1)}


class Server:
    def __init__(self, folder, word, cpu):
        with open(os.path.join(folder, "served.py"), "w") as file:
            file.write(APPLICATION)
        self.path = os.path.join(folder, "socket-port")
        self.child = subprocess.Popen(
            ["/usr/bin/python3", "-m", "gunicorn", "-w", "1", "-b", "127.0.0.1:0", "--chdir",
             folder, "-n", word, "served:app", "--log-level", "info"], stderr=subprocess.PIPE,
            text=True, preexec_fn=proc.pin(cpu))
        self.worker = None
        for line in self.child.stderr:
            self.url = (re.search(r"Listening at: (http://\S+)", line) or
                        [None, getattr(self, "url", None)])[1]
            booted = re.search(r"Booting worker with pid: (\d+)", line)
            if booted:
                self.worker = int(booted[1])
                break
        if not self.worker:
            raise proc.BenchError("gunicorn did not start")

    def load(self, requests, cpu):
        """(requests a second, CPU us of the worker for one)"""
        before = self._cpu_ns()
        text = subprocess.run(["ab", "-q", "-n", str(requests), "-c", "4", self.url + "/"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                              text=True, preexec_fn=proc.pin(cpu)).stdout
        used = self._cpu_ns() - before
        if "Failed requests:        0" not in text:
            raise proc.BenchError("requests failed: %r" % text)
        return (float(re.search(r"Requests per second:\s+([\d.]+)", text)[1]),
                used / requests / 1e3)

    def _cpu_ns(self):
        with open("/proc/%d/schedstat" % self.worker) as file:
            return int(file.read().split()[0])

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.child.terminate()
        self.child.wait()
        self.child.stderr.close()


def web(tool, engine, rounds, requests):
    if not shutil.which("ab") or not os.path.exists("/usr/bin/gunicorn"):
        raise proc.BenchError("missing: apt-get install gunicorn apache2-utils")
    word, folder = "bench-web-%d" % os.getpid(), tempfile.mkdtemp(prefix="pytrace-bench-")
    found = {"plain_per_s": [], "agent_per_s": [], "plain_us": [], "agent_us": [],
             "slower_percent": [], "cpu_percent": []}
    try:
        with Server(folder, word, 0) as server:
            server.load(requests, 1)
            for number in range(rounds):
                got = {}
                for with_agent in ((False, True) if number % 2 else (True, False)):
                    with (Agent(tool, folder, word, 2, engine) if with_agent
                          else contextlib.nullcontext()):
                        got[with_agent] = server.load(requests, 1)
                for i, name in enumerate(("per_s", "us")):
                    found["plain_" + name].append(got[False][i])
                    found["agent_" + name].append(got[True][i])
                found["slower_percent"].append(100 * (1 - got[True][0] / got[False][0]))
                found["cpu_percent"].append(100 * (got[True][1] / got[False][1] - 1))
    finally:
        shutil.rmtree(folder)
    return {"what": "web", "engine": engine, "requests": requests,
            **{k: stats.summary(v, 2) for k, v in found.items()}}
