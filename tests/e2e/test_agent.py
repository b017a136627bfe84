# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The agent: what it counts, against the programs' own counts; configuration, HTTP, its end."""
import hashlib
import hmac
import http.client
import http.server
import io
import json
import os
import random
import re
import signal
import socket
import stat
import tarfile
import threading
import time
import urllib.parse

from harness import interpreters, process, trace

TOKEN = "0123456789abcdef0123"
SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\d+(?:\.\d+)?)$')
LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')


def parse(text):
    """{(name, labels): value}; as strict as Prometheus: each name has its HELP and TYPE right before
    all of its samples, and no sample comes twice."""
    result, kind, name, done = {}, None, None, set()
    assert text.endswith("\n"), "the last line does not end"
    for line in text.splitlines():
        if line.startswith("# HELP "):
            done.add(name)
            name, kind = line.split()[2], None
            assert name not in done and len(line.split()) > 3, line
        elif line.startswith("# TYPE "):
            assert line.split()[2] == name and kind is None, line
            kind = line.split()[3]
            assert kind in ("counter", "gauge"), line
            assert (kind == "counter") == name.endswith("_total"), line
        else:
            match = SAMPLE.match(line)
            assert match and match[1] == name and kind, line
            key = (name, tuple(sorted(LABEL.findall(match[2] or ""))))
            assert key not in result, line
            result[key] = float(match[3])
    return result


class Agent:
    def __init__(self, t, config):
        self.path = t.path("agent.json")
        self.configure(config)
        self.tracer = process.Tracer("agent", "--config", self.path)
        line = self.tracer.err.wait("the agent answers", "the agent")
        self.host, self.port = re.search(r"http://([\d.]+):(\d+)", line).groups()

    def configure(self, config):
        with open(self.path, "w") as file:
            file.write(config if isinstance(config, str) else json.dumps(config))

    def ask(self, path, method="GET", headers=None, body=None):
        """(status, text)"""
        status, data = self.fetch(path, method, headers, body)
        return status, data.decode()

    def fetch(self, path, method="GET", headers=None, body=None):
        """(status, bytes)"""
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=process.WAIT_S)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, data):
        """What it answers to these bytes, up to the end of the connection or 0.2 s of silence."""
        with socket.create_connection((self.host, int(self.port)), process.WAIT_S) as s:
            s.settimeout(0.2)
            try:
                s.sendall(data)
                return s.recv(65536)
            except OSError:
                return b""

    def metrics(self):
        status, text = self.ask("/metrics")
        assert status == 200, text
        return parse(text)

    def recorded(self):
        return {p["pid"]: p for p in json.loads(self.ask("/processes")[1])["recorded"]}

    def wait(self, condition, what):
        def check():
            time.sleep(0.05)  # it has other things to do
            return condition(self)
        try:
            process.wait_until(check, what)
        except process.ToolError as error:
            raise process.ToolError("%s; /processes: %.4000s" % (
                error, self.ask("/processes")[1])) from None


def total(metrics, name):
    return sum(value for (n, _), value in metrics.items() if n == name)


def of(metrics, name, **labels):
    """The sum of the samples with these labels."""
    want = {(k, str(v)) for k, v in labels.items()}
    return sum(v for (n, have), v in metrics.items() if n == name and want <= set(have))


def start(marker, count, seed, copy=None):
    """Programs that end in all ways, with counts of their own: [(Target, calls, exceptions, gcs)].
    Of the copy of an interpreter nobody else can have probes."""
    chance = random.Random(seed)
    result = []
    for i in range(count):
        numbers = (chance.randint(1, 900), chance.randint(1, 40), chance.randint(1, 5))
        ending = ("exit", "SIGKILL", "abort", "SIGSEGV")[i % 4]
        interp = copy.interpreter if copy else interpreters.one(("3.8", "3.11", "3.12", "3.13")[i % 4])
        words = (process.install_programs(interp) + "/counted.py", *map(str, numbers), ending, marker)
        command = (copy or interp).command(*words)
        result.append((process.Target(interp, "counted", command=command,
                                      env=copy.env() if copy else None), *numbers))
    return result


def run(agent, programs):
    agent.wait(lambda a: {p[0].pid for p in programs} <= set(a.recorded()),
               "all to be recorded")
    let_run(programs)


def let_run(programs):
    """To their ends."""
    for target, *_ in programs:
        target.go()
    for target, *_ in programs:
        target.done()
        target.send(b"q")
    for target, *_ in programs:
        target.popen.wait(process.WAIT_S)


def config(marker, **more):
    return {"listen": "127.0.0.1:0", "scan": "100ms", "record": {"engine": "exact", "exceptions": True},
            "metrics": {"functions": 100},
            "rules": [{"action": "exclude", "command": "*%s-not*" % marker},
                      {"name": "mine", "command": "*%s*" % marker}], **more}


def write_token(t, name="token", text=TOKEN):
    path = t.path(name)
    with open(path, "w") as file:
        file.write(text + "\n")
    os.chmod(path, 0o600)
    return path


def test_counts(t):
    """Programs that start, crash and exit: the metrics are their own counts, each and in all."""
    marker = "counted-%d" % os.getpid()
    wish = config(marker, token_file=write_token(t))
    copy = process.Copy(interpreters.one("3.11"))
    outsider = start(marker + "-not", 1, 0, copy)[0][0]
    programs = start(marker, 4, 1) + start(marker, 1, 5, copy)
    more = start("later-" + marker[8:], 3, 2)
    agent = Agent(t, wish)
    agent.wait(lambda a: len(a.recorded()) == 5, "all to be recorded")
    t.equal([process.has_probes(p) for p in (outsider.pid, programs[-1][0].pid)], [False, True],
            "probes in a process that is excluded, and in one that is not")
    run(agent, programs)
    agent.wait(lambda a: not a.recorded(), "all to have ended")
    agent.wait(lambda a: total(a.metrics(), "pytrace_gc_collections_total") ==
               sum(p[3] for p in programs), "what they did last")
    got = agent.metrics()
    for target, calls, exceptions, collections in programs:
        t.equal(of(got, "pytrace_function_calls_total", pid=target.pid, function="leaf"), calls,
                "calls of leaf() in %d" % target.pid)
        t.equal(of(got, "pytrace_calls_total", pid=target.pid), calls + exceptions + 1,
                "calls in %d" % target.pid)
        t.equal(of(got, "pytrace_exceptions_total", pid=target.pid), exceptions,
                "exceptions in %d" % target.pid)
        t.equal(of(got, "pytrace_gc_collections_total", pid=target.pid), collections,
                "collections in %d" % target.pid)
    for cause in ("buffer_full", "no_thread_memory"):
        t.equal(of(got, "pytrace_agent_lost_total", cause=cause), 0, "lost by " + cause)
    t.equal(of(got, "pytrace_agent_attached_total"), 5, "attached")

    # other processes, and fewer series: what has ended, and what has none, is still counted
    agent.configure(dict(wish, metrics={"processes": 2, "keep_ended": "100ms"},
                         rules=[{"command": "*later-%s*" % marker[8:]}]))
    t.equal(agent.ask("/reload", "POST")[0], 401, "without the token")
    t.equal(agent.ask("/reload", "POST", {"Authorization": "Bearer " + TOKEN[:-1]})[0], 401,
            "with a part of the token")
    t.equal(agent.ask("/reload", "POST", {"Authorization": "Bearer " + TOKEN})[0], 202,
            "with the token")
    agent.tracer.err.wait("was read anew", "the agent")
    run(agent, more)
    agent.wait(lambda a: total(a.metrics(), "pytrace_gc_collections_total") ==
               sum(p[3] for p in programs + more), "what they did last")
    got = agent.metrics()
    t.equal(total(got, "pytrace_calls_total"), sum(p[1] + p[2] + 1 for p in programs + more),
            "calls in all")
    pids = {dict(labels)["pid"] for name, labels in got if name == "pytrace_calls_total"}
    t.check(len(pids) <= 4, "series of %s", pids)
    t.equal(of(got, "pytrace_agent_sessions_total", reason="reload"), 1, "sessions")
    outsider.kill()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")


def test_limits(t):
    """A process that is too dear for its rule is let go; all together rest between windows."""
    marker = "limits-%d" % os.getpid()
    (counted, calls, *_), = start(marker, 1, 6)
    copy = process.Copy(interpreters.one("3.11"))
    heavy = process.Target(copy.interpreter, "heavy", env=copy.env(), command=copy.command(
        process.install_programs(copy.interpreter) + "/heavy.py", marker))
    rules = [{"command": "*heavy.py*%s*" % marker, "max_overhead": "0.1%"},
             {"command": "*counted*%s*" % marker}]
    wish = config(marker, rules=rules)
    agent = Agent(t, wish)
    agent.wait(lambda a: of(a.metrics(), "pytrace_agent_attach_failures_total", reason="overhead"),
               "the dear one to be let go")
    agent.wait(lambda a: set(a.recorded()) == {counted.pid}, "only the other one to be recorded")
    t.equal(process.has_probes(heavy.pid), False, "probes in the one that was let go")
    refused, = json.loads(agent.ask("/processes")[1])["refused"]
    t.equal(refused["pid"], heavy.pid, "who was let go")
    t.has(refused["reason"], "of its own CPU time (max_overhead 0.1%)")
    counted.go()
    counted.done()
    agent.wait(lambda a: of(a.metrics(), "pytrace_function_calls_total", function="leaf",
                            pid=counted.pid) == calls, "the calls of the other one")
    got = agent.metrics()
    t.equal(of(got, "pytrace_agent_rests_total"), 0, "rests without a limit on all")
    t.equal([dict(labels)["pid"] for name, labels in got if name == "pytrace_overhead_ratio"],
            [str(counted.pid)], "processes that have a ratio")

    agent.configure(dict(wish, record={"engine": "exact", "max_overhead": "20%"}, rules=[{"command": "*%s*" % marker}]))
    agent.tracer.popen.send_signal(signal.SIGHUP)
    agent.wait(lambda a: of(a.metrics(), "pytrace_agent_rests_total") >= 2, "rests")
    agent.wait(lambda a: of(a.metrics(), "pytrace_calls_total", pid=heavy.pid) > 0, "calls")
    got = agent.metrics()
    t.check(of(got, "pytrace_overhead_ratio", pid=heavy.pid) > 0, "what it cost")
    for name in ("recorded", "rested", "recorded_cpu", "probes"):
        t.check(of(got, "pytrace_agent_%s_seconds_total" % name) > 0, "no time %s", name)
    t.has("\n".join(agent.tracer.err.lines), "recording rests")
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")
    t.equal(process.has_probes(heavy.pid), False, "probes at the end")
    t.equal(heavy.finish(), 0, "exit status")
    counted.kill()


def test_samples(t):
    """The sampling engine: where the CPU time goes, without a probe; exact counts stay what they are."""
    marker = "sampled-%d" % os.getpid()
    interp = interpreters.one("3.12")
    target = process.Target(interp, "spin",
                            command=process.script(interp, "spin.py", "1", "5", "0", marker))
    agent = Agent(t, config(marker, record={"frequency": 199}))
    agent.wait(lambda a: target.pid in a.recorded(), "it to be recorded")
    t.equal(agent.recorded()[target.pid]["engine"], "sample", "the engine")
    name = "pytrace_function_sampled_seconds_total"
    agent.wait(lambda a: of(a.metrics(), name, pid=target.pid, function="middle") > 0.02 and
               of(a.metrics(), name, pid=target.pid, function="leaf") > 0.02, "samples")
    got = agent.metrics()
    more = of(got, name, pid=target.pid) - of(got, "pytrace_sampled_seconds_total", pid=target.pid)
    t.check(more < 1e-6, "%g s more in its functions than in all", more)  # it is a sum of floats
    t.check(of(got, "pytrace_samples_total", pid=target.pid) > 1, "no samples")
    t.equal({n for n, _ in got} & {"pytrace_calls_total", "pytrace_gc_collections_total",
                                   "pytrace_function_calls_total"}, set(), "what is not recorded")
    t.check(not process.has_probes(target.pid), "there are probes")
    target.kill()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")


def test_service(t):
    """HTTP as it should not be used, configurations that are wrong, and an agent that is killed."""
    marker = "service-%d" % os.getpid()
    agent = Agent(t, config(marker))
    (target, calls, *_), = start(marker, 1, 3, process.Copy(interpreters.one("3.11")))
    agent.wait(lambda a: target.pid in a.recorded(), "it to be recorded")
    t.equal(agent.recorded()[target.pid]["rule"], "mine", "the rule")
    slow = [socket.create_connection((agent.host, int(agent.port))) for _ in range(8)]
    for s in slow:
        s.sendall(b"GET /met")
    for path, method, status in (("/healthz", "GET", 200), ("/metrics", "HEAD", 200),
                                 ("/", "GET", 404), ("/metrics/", "GET", 404),
                                 ("/../../etc/passwd", "GET", 404), ("/%2e%2e/etc/passwd", "GET", 404),
                                 ("/metrics", "POST", 405), ("/metrics", "DELETE", 405),
                                 ("/reload", "GET", 405), ("/reload", "POST", 403)):
        t.equal(agent.ask(path, method)[0], status, "%s %s" % (method, path))
    t.check(b" 200 " not in agent.raw(b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 100000), "a huge head")
    chance = random.Random(4)
    for _ in range(10):
        agent.raw(bytes(chance.randrange(256) for _ in range(60)) + b"\r\n\r\n")
    t.equal(agent.ask("/healthz"), (200, "ok\n"), "health after that")
    for s in slow:
        s.close()

    agent.configure('{"rules": [{}],\n "lisen": "127.0.0.1:1"}\n')
    _, said = process.run_tool("agent", "--config", agent.path, "--check-config", code=2)
    t.has(said, "agent.json:2: there is no key \"lisen\" here")
    agent.tracer.popen.send_signal(signal.SIGHUP)
    agent.tracer.err.wait("agent.json:2: there is no key", "the agent")
    target.go()
    target.done()
    agent.wait(lambda a: of(a.metrics(), "pytrace_function_calls_total", function="leaf") == calls,
               "its calls, after a reload that failed")
    t.equal(of(agent.metrics(), "pytrace_agent_reload_failures_total"), 1, "failed reloads")

    agent.tracer.stop(signal.SIGKILL)
    process.wait_until(lambda: not process.has_probes(target.pid), "the probes to be gone")
    agent = Agent(t, config(marker))
    agent.wait(lambda a: target.pid in a.recorded(), "it to be recorded again")
    target.ask(b"x", "done")
    agent.wait(lambda a: of(a.metrics(), "pytrace_function_calls_total", function="leaf") == calls,
               "its calls, by the next agent")
    taken = agent.path + ".2"
    with open(taken, "w") as file:
        json.dump(config(marker, listen="%s:%s" % (agent.host, agent.port)), file)
    _, said = process.run_tool("agent", "--config", taken, code=1)
    t.has(said, "cannot listen on")
    target.kill()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")
    process.run_tool("agent", code=2)


class Download:
    """A capture as the agent gives it away."""

    def __init__(self, t, agent, one):
        status, data = agent.fetch(one["path"], headers=BEARER)
        t.equal((status, len(data)), (200, one["bytes"]), "download of %s" % one["path"])
        name = one["name"][:-len(".tar.gz")]
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            self.meta = json.load(tar.extractfile(name + "/meta.json"))
            into = t.path(name)
            tar.extractall(into)
        self.trace = trace.load(os.path.join(into, name, "trace.json.gz"))
        t.check("secret" not in json.dumps(self.trace.document), "the trace has a command line")

    def pids(self):
        return {e["pid"] for e in self.trace.events if e["ph"] == "X"}


BEARER = {"Authorization": "Bearer " + TOKEN}


class Storage(http.server.ThreadingHTTPServer):
    """Storage that understands S3: each object is refused once, and must be signed."""
    KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"

    def __init__(self):
        storage = self
        self.objects, self.wrong, self.refused = {}, [], set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 503 if self.path not in storage.refused else 200
                storage.refused.add(self.path)
                problem = storage.problem(self, body)
                if problem:
                    storage.wrong.append(problem)
                    status = 403
                if status == 200:
                    storage.objects[self.path] = body
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def problem(self, request, body):
        """By the rules of AWS Signature Version 4."""
        got = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/eu-test-1/s3/aws4_request, ?"
                           r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})",
                           request.headers.get("Authorization", ""))
        digest = hashlib.sha256(body).hexdigest()
        if not got or got[1] != self.KEY:
            return "authorization: %s" % request.headers.get("Authorization")
        if request.headers["x-amz-content-sha256"] != digest or "x-amz-content-sha256" not in got[3]:
            return "the content's hash: %s" % request.headers["x-amz-content-sha256"]
        lines = ["PUT", urllib.parse.quote(urllib.parse.unquote(request.path), safe="/-_.~"), ""]
        lines += ["%s:%s" % (name, request.headers[name].strip()) for name in got[3].split(";")]
        whole = "\n".join(lines + ["", got[3], digest])
        scope = "%s/eu-test-1/s3/aws4_request" % got[2]
        key = b"AWS4" + self.SECRET.encode()
        for part in (got[2], "eu-test-1", "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = "\n".join(["AWS4-HMAC-SHA256", request.headers["X-Amz-Date"], scope,
                          hashlib.sha256(whole.encode()).hexdigest()])
        if hmac.new(key, text.encode(), hashlib.sha256).hexdigest() != got[4]:
            return "the signature of\n" + whole
        return None


def captured(agent, rule, kind):
    """The captures of this rule whose first trigger is of this kind, when there are any."""
    found = []

    def look(a):
        status, text = a.ask("/captures", headers=BEARER)
        assert status == 200, text
        found[:] = [one for one in json.loads(text)
                    if one["rule"] == rule and one["name"].endswith("-%s.tar.gz" % kind)]
        return found
    agent.wait(look, "a capture of %s by %s" % (rule, kind))
    return found


def test_captures(t):
    """Each rule's flight recorder has its own processes and fires for them alone; captures are listed
    and fetched by who has the token, and nothing else is."""
    marker = "keeps-%d" % os.getpid()
    folder = t.path("captures")

    def rule(name, *on, **more):
        return {"name": name, "command": "*%s-%s*" % (marker, name),
                "capture": {"on": list(on), "cool_down": "1h", **more}}

    storage, sent = Storage(), t.path("sent")
    os.mkdir(sent)
    credentials = write_token(t, "credentials", "%s:%s" % (storage.KEY, storage.SECRET))
    upload = {"command": ["cp", "-t", sent],
              "s3": {"url": "http://127.0.0.1:%d/bucket/here/" % storage.server_port,
                     "region": "eu-test-1", "credentials_file": credentials}}
    targets = {}
    for name in ("slow", "crash", "none"):
        interp = interpreters.one("3.12")
        words = process.script(interp, "flight.py", "--password=secret", "%s-%s" % (marker, name))
        targets[name] = process.Target(interp, "flight", command=words)
        targets[name].rests()
    wish = {"listen": "127.0.0.1:0", "scan": "100ms", "token_file": write_token(t), "captures": folder,
            "upload": upload, "record": {"engine": "exact"},
            "rules": [rule("slow", "slow:slow_call:200ms", "exception:FlightError", max_captures=2),
                      rule("crash", "crash", "slow:nobody:1ms"),
                      {"name": "none", "command": "*%s-none*" % marker}]}
    agent = Agent(t, wish)
    agent.wait(lambda a: len(a.recorded()) == 3, "all to be recorded")
    t.equal([agent.ask(*words)[0] for words in (("/captures",), ("/captures/slow/x",),
                                                 ("/capture?pid=1", "POST"))],
            [401, 401, 401], "without the token")
    for name in ("none", "crash", "slow"):
        targets[name].ask(b"s", "did s")
    for query, status in (("", 400), ("?pid=x", 400), ("?pid=0", 400), ("?pid=99999999999", 400),
                          ("?pid=%d" % os.getpid(), 404), ("?pid=%d" % targets["none"].pid, 404),
                          ("?pid=%d" % targets["crash"].pid, 202)):
        t.equal(agent.ask("/capture" + query, "POST", BEARER)[0], status, "POST /capture" + query)
    (one,) = captured(agent, "slow", "slow")
    got = Download(t, agent, one)
    t.equal(got.meta["pid"], targets["slow"].pid, "whose capture it is")
    t.equal(got.pids(), {targets["slow"].pid}, "processes of it")
    t.has(got.meta["interpreter"], "CPython 3.12")
    t.equal(len(got.trace.named("slow_call")), 1, "calls of slow_call()")
    path = os.path.join(folder, "slow", one["name"])
    t.equal([stat.S_IMODE(os.stat(p).st_mode) for p in (folder, os.path.dirname(path), path)],
            [0o700, 0o700, 0o600], "modes")
    got = Download(t, agent, captured(agent, "crash", "http")[0])
    t.equal((got.pids(), got.meta["trigger"]), ({targets["crash"].pid}, "http"), "what was asked for")

    # what is none of the captures
    name = one["name"]
    os.symlink("/etc/passwd", os.path.join(folder, "slow", name.replace("capture-2", "capture-1")))
    for bad in ("slow", "slow/", "slow/" + name[:-1], "crash/" + name, "slow/../slow/" + name,
                "slow/..%2fslow%2f" + name, "slow/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "../etc/passwd",
                "/etc/passwd", ".slow/" + name, "slow//" + name,
                "slow/" + name.replace("capture-2", "capture-1")):
        t.equal(agent.ask("/captures/" + bad, headers=BEARER), (404, "there is no such capture\n"), bad)
    t.equal(agent.ask("/captures/slow/" + name, "POST", BEARER)[0], 405, "POST of a capture")

    # a process that crashes, and a second capture of the other rule
    targets["crash"].send(b"c")
    targets["slow"].ask(b"e", "did e")
    got = Download(t, agent, captured(agent, "crash", "crash")[0])
    t.has(got.meta["what"], "process %d was ended by signal 11" % targets["crash"].pid)
    got = Download(t, agent, captured(agent, "slow", "exception")[0])
    t.equal(len(got.trace.named("fail")), 1, "calls of fail()")
    counts = {"slow": 1, "http": 1, "crash": 1, "exception": 1, "gc": 0}
    agent.wait(lambda a: {kind: of(a.metrics(), "pytrace_agent_captures_total", trigger=kind)
                          for kind in counts} == counts, "the counts of the captures")
    t.equal(of(agent.metrics(), "pytrace_agent_capture_failures_total"), 0, "failures")

    # each of them was sent, by both ways, and refused once
    agent.wait(lambda a: of(a.metrics(), "pytrace_agent_uploads_total", result="sent") == 4,
               "all to be sent")
    t.equal(storage.wrong, [], "what was wrong with requests")
    have = {one["path"]: agent.fetch(one["path"], headers=BEARER)[1]
            for one in json.loads(agent.ask("/captures", headers=BEARER)[1])}
    t.equal({urllib.parse.unquote(path)[len("/bucket/here/"):]: body
             for path, body in storage.objects.items()},
            {path[len("/captures/"):]: body for path, body in have.items()}, "what the storage has")
    t.equal(sorted(os.listdir(sent)), sorted(os.path.basename(path) for path in have), "what was copied")
    metrics = agent.metrics()
    t.equal((of(metrics, "pytrace_agent_uploads_total", result="failed"),
             of(metrics, "pytrace_agent_upload_retries_total")), (0, 4), "failed uploads, and retries")
    storage.shutdown()
    for target in targets.values():
        target.kill()
    t.equal(agent.tracer.stop(signal.SIGTERM), 0, "exit code")
    t.equal([n for n in os.listdir(folder + "/slow") if n[0] == "."], [], "left behind")
