# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Captures that somebody asks for by HTTP, and all that is no such question."""
import http.client
import json
import os
import re
import stat

from harness import interpreters, process, web
from test_agent import TOKEN
from test_capture import Recorder

CLIENTS_MAX = 64  # user/base/http.c
AUTH = {"Authorization": "Bearer " + TOKEN}


class Asked(Recorder):
    """A recorder, and where it says that it can be asked."""

    def __init__(self, t, minor, *options, **more):
        super().__init__(t, minor, *options, **more)
        line = self.tool.err.wait("makes a capture", "the recorder")
        self.url = re.search(r"POST (\S+)/capture makes", line)[1]

    def connect(self):
        return web.connect(self.url)

    def ask(self, path="/capture", method="POST", headers=None, body=None):
        """(status, headers, text)"""
        return web.ask(self.connect(), method, path, headers, body)


def token_file(t, mode=0o600):
    path = t.path("token")
    with open(path, "w") as file:
        file.write(TOKEN + "\n")
    os.chmod(path, mode)
    return path


def check_refused(t, r):
    """Nothing of this makes a capture."""
    for headers in ({}, {"Authorization": "Bearer " + TOKEN[:-1]}, {"Authorization": TOKEN},
                    {"Authorization": "Bearer " + TOKEN + "x"}):
        status, got, _ = r.ask(headers=headers)
        t.equal((status, got["WWW-Authenticate"]), (401, "Bearer"), headers)
    status, _, text = r.ask(headers=dict(AUTH, Origin="http://elsewhere.example"))
    t.equal(status, 403, "with an Origin")
    t.has(text, "web page")
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        status, got, _ = r.ask(method=method, headers=AUTH)
        t.equal((status, got["Allow"]), (405, "POST"), method)
    for path in ("/", "/captures", "/capture/", "/capture/../capture", "/../../../etc/passwd",
                 "/capture/%2e%2e/%2e%2e/etc/passwd"):
        t.equal(r.ask(path, headers=AUTH)[0], 404, path)
    try:
        status = r.ask(headers=AUTH, body=b"x" * (1 << 20))[0]
    except (OSError, http.client.HTTPException):
        status = None  # it hangs up
    t.equal(status, None, "a long body")


def test_http(t):
    """Who knows the token gets a capture of what was until then, by the name that the answer has."""
    folder = t.path("captures")
    r = Asked(t, "3.11", "--on", "http:0", "--token-file", token_file(t), "--cool-down", "1h", "--on",
              "slow:never:1h", "--format", "tar.gz", folder=folder)
    check_refused(t, r)
    slow = [r.connect() for _ in range(CLIENTS_MAX - 1)]
    for s in slow:
        s.sendall(b"POST /capture HTTP/1.1\r\nHost: x\r\n")
    r.do(b"s")
    t.equal(os.listdir(folder), [], "captures before somebody asked")
    status, _, text = r.ask(headers=AUTH)
    t.equal(status, 202, text)
    name = json.loads(text)["name"]
    capture = r.captured()
    t.equal(capture.path, os.path.join(folder, name + ".unpacked", name[:-len(".tar.gz")]), "its name")
    t.equal((capture.meta["trigger"], capture.meta["what"], capture.meta["also fired"]),
            ("http:0", "it was asked for", []), "what fired")
    t.check(capture.trace.named("slow_call"), "what was before is not in it")
    status, got, text = r.ask(headers=AUTH)
    t.equal(status, 429, text)
    t.check(0 < int(got["Retry-After"]) <= 3600, "Retry-After: %s", got["Retry-After"])
    for s in slow:
        s.close()
    port = r.url.rpartition(":")[2]
    _, err = process.run_tool("capture", "-p", r.target.pid, "--on", "http:" + port, "-o", t.path("o"),
                              code=1)
    t.has(err, "cannot listen on '127.0.0.1:%s'" % port, "Address already in use", "http:PORT")
    r.tool.expect(0, stop=True)
    t.equal(len([n for n in os.listdir(folder) if n.endswith(".tar.gz")]), 1, "captures in all")
    r.target.finish()


def test_unix_socket(t):
    """No token is needed there; with --count there is one capture, and that is the end."""
    path = t.path("socket")
    r = Asked(t, "3.12", "--on", "http:unix:" + path, "--count", "1")
    t.equal((r.url, stat.S_IMODE(os.stat(path).st_mode)), ("unix:" + path, 0o660), "the socket")
    status, _, text = r.ask()
    t.equal(status, 202, text)
    t.equal(os.path.basename(r.captured().path), json.loads(text)["name"], "its name")
    r.tool.expect(0)
    t.check(not os.path.exists(path), "the socket is still there")
    r.target.finish()


def test_bad_places(t):
    """Told before anything is attached."""
    target = process.Target(interpreters.one(), "flight", command=process.script(
        interpreters.one(), "flight.py"))
    for options, text in ((["--on", "http:nowhere"], "it takes a port"),
                          (["--on", "http:"], "it takes a port"),
                          (["--on", "http:70000"], "it takes a port"),
                          (["--on", "http:unix:relative"], "it takes a port"),
                          (["--on", "http:0.0.0.0:0"], "needs a token"),
                          (["--on", "http:[::]:0"], "needs a token"),
                          (["--on", "http", "--on", "http:0"], "twice"),
                          (["--on", "crash", "--token-file", token_file(t)], "goes with --on http"),
                          (["--on", "http:0", "--token-file", token_file(t, 0o644)],
                           "everybody may read"),
                          (["--on", "http:0", "--token-file", t.path("none")], "cannot read")):
        _, err = process.run_tool("capture", "-p", target.pid, "-o", t.path("o"), *options, code=2)
        t.has(err, text)
        t.check("recording" not in err, "it recorded: %s", err)
    target.finish()
