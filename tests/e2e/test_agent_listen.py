# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Where the agent listens: a unix socket, TLS; clients that hold it up."""
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess

from harness import process, web
from test_agent import TOKEN, Agent

CLIENTS_MAX = 64  # user/base/http.c


class Listening(Agent):
    """url: as the agent says it; context: for TLS."""

    def __init__(self, t, config, context=None):
        self.path, self.context = t.path("agent.json"), context
        self.configure(config)
        self.tracer = process.Tracer("agent", "--config", self.path)
        line = self.tracer.err.wait("the agent answers", "the agent")
        self.url = re.search(r"answers at (\S+);", line)[1]

    def connect(self):
        result = web.connect(self.url)
        if self.context:
            result = self.context.wrap_socket(result, server_hostname="127.0.0.1")
        return result

    def ask(self, path, method="GET", headers=None, body=None):
        status, _, text = web.ask(self.connect(), method, path, headers, body)
        return status, text


def config(where, **more):
    return dict({"listen": where, "rules": [{"command": "none-%d" % os.getpid()}]}, **more)


def make_certificate(t, name):
    """Of its own, for 127.0.0.1."""
    cert, key = t.path(name + ".cert"), t.path(name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=" + name,
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o600)
    return {"cert_file": cert, "key_file": key}


def trusting(tls):
    return ssl.create_default_context(cafile=tls["cert_file"])


def well(agent):
    try:
        return agent.ask("/healthz") == (200, "ok\n")
    except (OSError, http.client.HTTPException):
        return False  # too many clients; or it is about to listen again


def refused(t, agent, context, what):
    agent.context, before = context, agent.context
    try:
        agent.connect().close()
    except ssl.SSLError:
        return
    finally:
        agent.context = before
    t.check(False, "%s was taken", what)


def test_unix(t):
    """A socket in the file system: whose it is, when it is there; clients that do nothing."""
    path = t.path("socket")
    agent = Listening(t, config("unix:" + path))
    t.equal(agent.url, "unix:" + path, "where it answers")
    t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o660, "its mode")
    t.equal(agent.ask("/healthz"), (200, "ok\n"), "health")
    other = t.path("other.json")
    with open(other, "w") as file:
        json.dump(config("unix:" + path), file)
    _, said = process.run_tool("agent", "--config", other, code=1)
    t.has(said, "cannot listen on", "Address already in use")
    with open(other, "w") as file:
        json.dump(config("unix:" + other), file)
    _, said = process.run_tool("agent", "--config", other, code=1)
    t.has(said, "no socket of ours")

    slow = [agent.connect() for _ in range(CLIENTS_MAX)]
    for s in slow:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    for s in slow[1:]:
        s.close()
    agent.wait(well, "an answer beside a slow client")
    slow[0].sendall(b"\r\n")
    t.check(slow[0].recv(100).startswith(b"HTTP/1.1 200"), "the slow one got no answer")
    slow[0].close()

    agent.tracer.stop(signal.SIGKILL)
    t.check(os.path.exists(path), "a killed agent cannot have removed its socket")
    agent = Listening(t, config("unix:" + path))
    t.equal(agent.ask("/healthz"), (200, "ok\n"), "health of the next")
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")
    t.check(not os.path.exists(path), "the socket is still there")


def test_tls(t):
    """TLS: who is trusted, a certificate that is renewed, one that does not fit; no plain text beyond
    this host."""
    first, second = make_certificate(t, "first"), make_certificate(t, "second")
    token = t.path("token")
    with open(token, "w") as file:
        file.write(TOKEN)
    os.chmod(token, 0o600)
    agent = Listening(t, config("127.0.0.1:0", tls=first, token_file=token), trusting(first))
    host = agent.url[len("https://"):]
    t.equal(agent.url, "https://" + host, "where it answers")
    t.equal(agent.ask("/healthz"), (200, "ok\n"), "health")
    t.check(agent.ask("/metrics")[1].endswith("\n"), "metrics")
    t.equal(agent.ask("/reload", "POST")[0], 401, "without a token")
    refused(t, agent, trusting(second), "another's certificate")
    old = trusting(first)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    refused(t, agent, old, "TLS 1.1")
    plain = socket.create_connection(host.rsplit(":", 1), process.WAIT_S)
    try:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        t.check(b"200" not in plain.recv(1000), "plain text got an answer")
    except ConnectionResetError:
        pass
    plain.close()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")

    # a key that is not the certificate's, on the socket that is in use: what was before stays
    where = "unix:" + t.path("socket")
    agent = Listening(t, config(where, tls=first, token_file=token), trusting(first))
    t.equal(agent.ask("/healthz"), (200, "ok\n"), "health, by TLS on a unix socket")
    agent.configure(config(where, tls={"cert_file": second["cert_file"],
                                       "key_file": first["key_file"]}, token_file=token))
    agent.tracer.popen.send_signal(signal.SIGHUP)
    agent.tracer.err.wait("are refused", "the agent")
    agent.wait(well, "an answer with the old certificate")
    agent.configure(config(where, tls=second, token_file=token))
    t.equal(agent.ask("/reload", "POST", {"Authorization": "Bearer " + TOKEN})[0], 202, "reload")
    agent.tracer.err.wait("was read anew", "the agent")
    agent.context = trusting(second)
    t.equal(agent.ask("/healthz"), (200, "ok\n"), "health, with the new certificate")
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")

    os.chmod(first["key_file"], 0o644)
    for more, says in (({"tls": first}, "everybody may read the key"),
                       ({}, "agent.json:1: \"listen\": '0.0.0.0:0' is open to other hosts"),
                       ({"tls": dict(first, cert_file=t.path("no"))}, "cannot read the certificate")):
        agent.configure(config("0.0.0.0:0", **more))
        _, said = process.run_tool("agent", "--config", agent.path, "--check-config", code=2)
        t.has(said, says)
    agent.configure(config("0.0.0.0:0", allow_plain=True))
    process.run_tool("agent", "--config", agent.path, "--check-config")
