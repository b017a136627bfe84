# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Slow web requests, in servers and frameworks as Debian has them."""
import concurrent.futures
import http.client
import json
import os
import re
import threading
import time

from harness import interpreters, process, trace
from harness.runner import Skip

LIMIT_MS, SLOW_S = 300, 0.5
# server, who handles it, the function that is told of
CASES = (("wsgiref", "flask", "Flask.wsgi_app"), ("wsgiref", "django", "WSGIHandler.__call__"),
         ("gthread", "plain", "ThreadWorker.handle_request"),
         ("uvicorn", "plain", "RequestResponseCycle.run_asgi"))


class Server:
    def __init__(self, interp, name, *words):
        command = process.script(interp, "webapps.py", name, *words)
        self.target = process.Target(interp, name, command=command)
        words = self.target.out.wait("ready", name).split()
        self.pid, self.port = int(words[1]), int(words[2])
        self.ask("plain", 0)

    def ask(self, who, seconds):
        """How long the answer took, in ms."""
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=process.WAIT_S)
        try:
            connection.request("GET", "/%s/%g" % (who, seconds))
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"ok\n"), answer.status
        finally:
            connection.close()
        return (time.monotonic() - begin) * 1e3


def with_servers():
    interp = interpreters.system()
    code = "import importlib.util as u, sys; sys.exit(None in map(u.find_spec, sys.argv[1:]))"
    if process.subprocess.call(interp.command("-c", code, "flask", "django", "gunicorn", "uvicorn")):
        raise Skip("no flask, django, gunicorn and uvicorn here")
    return interp


def captures(tool):
    return [line.split("captured ", 1)[1] for line in tool.err.lines if "captured " in line]


def is_slow(line, server, function, times):
    """Is it of such a request, and right? A machine that is busy makes others slow, too."""
    took = re.search(r": a request (took|has taken) ([\d.]+) ms (so far )?in (\S+)$", line)
    if not took and ": a request in " in line:  # it still ran
        return False
    assert took and float(took[2]) > LIMIT_MS, line
    if "-%d-request" % server.pid not in line or took[4] != function:
        return False
    if took[1] == "took" and float(took[2]) < SLOW_S * 1e3:
        return False
    assert float(took[2]) <= max(times), "%s: the clients waited for %s" % (line, times)
    return True


def find_slow(tool, server, who, function):
    """The folder of a capture of a slow request, made for this; and how long short ones took, which
    there are meanwhile; uvicorn serves them in the same thread."""
    slow, short, stop = [], [], threading.Event()

    def others():
        while not stop.wait(0.05):
            short.append(server.ask("plain", 0.05))
    thread = threading.Thread(target=others)
    thread.start()
    try:
        for _ in range(5):
            seen = len(captures(tool))
            slow.append(server.ask(who, SLOW_S))
            process.wait_until(lambda: len(captures(tool)) > seen, "a capture of a slow request")
            for line in captures(tool)[seen:]:
                if is_slow(line, server, function, slow + short):
                    return line.split(": ")[0], short
    finally:
        stop.set()
        thread.join()
    raise AssertionError("it is in none of %s" % captures(tool))


def check(t, interp, name, who, function):
    """How long the longest short request took, in ms."""
    server = Server(interp, name)
    folder = t.path("captures-%s-%s" % (name, who))
    tool = process.Tracer("capture", "-p", server.pid, "-o", folder, "--cool-down", "0", "--last", "10s",
                          "--on", "request:%dms" % LIMIT_MS, "--on", "request:1h")
    tool.recording()
    fast = max(server.ask("plain", 0.01) for _ in range(5))
    path, short = find_slow(tool, server, who, function)
    with open(os.path.join(path, "meta.json")) as file:
        meta = json.load(file)
    t.equal((meta["trigger"], meta["also fired"]), ("request:%dms" % LIMIT_MS, []), "what fired")
    t.equal(meta["lost events"], 0, "lost events")
    got = trace.load(os.path.join(path, "trace.json.gz"))
    t.check(got.named("asgi" if name == "uvicorn" else "pause"), "the cause is not in %s", path)
    tool.expect(0, stop=True)
    longest = max([fast] + short)
    if longest < LIMIT_MS:
        t.check(captures(tool)[0].startswith(path), "before the slow one: %s", captures(tool)[0])
    return longest


def test_requests(t):
    """The request that takes long is told of, by the server's or framework's function; others that run
    in the meantime are not, and none that is short. All cases at once: most of it is waiting."""
    interp = with_servers()
    with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
        fast = [pool.submit(check, t, interp, *case) for case in CASES]
        print("short requests took up to %.0f ms" % max(one.result() for one in fast))
