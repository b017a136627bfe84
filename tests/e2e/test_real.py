# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Real programs under load, attached while they run: no loss, balanced, and the counts agree with the
program's own."""
import json
import threading
import time
import urllib.request

from harness import interpreters, process, trace
from harness.runner import Skip, each, limit

# What the programs import; looked for in the pyenv interpreters first.
LIMIT_S = 240


def with_module(module):
    for interp in sorted(interpreters.every(), key=lambda i: not i.name.startswith("pyenv")):
        done = process.subprocess.run(interp.command("-c", "import " + module),
                                      stderr=process.subprocess.DEVNULL)
        if done.returncode == 0:
            return interp
    raise Skip("no interpreter here has the module " + module)


def get(port, path):
    with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=60) as response:
        return response.read()


def no_loss(t, text):
    t.has(text, "nothing lost")


def in_threads(count, function):
    failures = []

    def run(i):
        try:
            function(i)
        except Exception as error:  # what a thread raises must not vanish
            failures.append(error)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    return threads, failures


@limit(LIMIT_S)
def test_flask(t):
    """A server with two clients all the time; four more make the requests that are counted."""
    interp = with_module("flask")
    target = process.Target(interp, "flask", command=process.script(interp, "real_flask.py"))
    port = int(target.out.wait("ready", "the server").split()[2])
    stop = threading.Event()

    def load(_):
        while not stop.is_set():
            get(port, "/other")
    loaders, load_failures = in_threads(2, load)
    time.sleep(0.5)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()

    def requests(i):
        for n in range(50):
            t.equal(json.loads(get(port, "/counted/%d" % (50 * i + n)))["n"], 50 * i + n, "answer")
    clients, failures = in_threads(4, requests)
    for client in clients:
        client.join()
    served = json.loads(get(port, "/served"))
    no_loss(t, tracer.expect(0, stop=True))
    stop.set()
    for loader in loaders:
        loader.join()
    t.equal(failures + load_failures, [], "failed requests")
    t.equal(target.finish(), 0, "exit status of the server")
    got = trace.load(t.path("trace.json.gz"))
    t.equal(served["counted"], 200, "requests that the program counted")
    t.equal(len(got.named("counted")), 200, "slices of counted()")
    t.equal(len(got.named("checksum")), 200, "slices of checksum()")
    t.check(len(got.named("other")) <= served["other"] + 2, "more slices of other() than calls")
    for s in got.named("counted"):
        t.check("checksum" in [c.name for c in s.children], "counted() without checksum()")
    print("%d slices in %d threads" % (got.count, len(got.threads)))


@limit(LIMIT_S)
def test_networkx(t):
    """Each job() that lies in the trace whole has the calls that sys.setprofile counted."""
    interp = with_module("networkx")
    target = process.Target(interp, "networkx",
                            command=process.script(interp, "real_networkx.py", t.path("counts")))
    with open(t.path("counts")) as file:
        expected = json.load(file)

    def jobs_so_far():
        target.out.lines.clear()
        target.send(b"x")
        return target.done()
    before = jobs_so_far()
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    first = second = jobs_so_far()
    while second < first + 5:
        second = jobs_so_far()
    no_loss(t, tracer.expect(0, stop=True))
    after = jobs_so_far()
    t.equal(target.finish(), 0, "exit status")
    got = trace.load(t.path("trace.json.gz"))
    jobs = got.named("job")
    t.check(second - first <= len(jobs) <= after - before + 2, "%d jobs in the trace, %d counted",
            len(jobs), second - first)
    jobs.sort(key=lambda s: s.begin)
    t.check(len(jobs) >= 4, "only %d jobs", len(jobs))
    for job in jobs[1:-1]:
        counts = {}
        for s in job.walk():
            counts[s.name] = counts.get(s.name, 0) + 1
        t.equal(counts, expected, "calls in a job")
    print("%d jobs of %d calls" % (len(jobs), sum(expected.values())))


@limit(LIMIT_S)
def test_sympy(t):
    interp = with_module("sympy")
    target = process.Target(interp, "sympy", command=process.script(interp, "real_sympy.py"))
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    for _ in range(5):
        target.out.forget()
        target.out.wait("round", "the target")
    no_loss(t, tracer.expect(0, stop=True))
    target.send(b"x")
    rounds = target.done()["rounds"]
    t.equal(target.finish(), 0, "exit status")
    got = trace.load(t.path("trace.json.gz"))
    jobs = sorted(got.named("job"), key=lambda s: s.begin)
    t.check(3 <= len(jobs) <= rounds + 1, "%d jobs in the trace, %d in all", len(jobs), rounds)
    # How many calls a job takes depends on the order of sets; what it calls itself does not.
    called = {tuple(c.name for c in job.children) for job in jobs[1:-1]}
    t.equal(len(called), 1, "different calls in job(): %s" % called)
    sizes = [sum(1 for _ in job.walk()) for job in jobs[1:-1]]
    t.check(min(sizes) > 1000 and max(sizes) < 1.2 * min(sizes), "calls in a job: %s", sizes)
    print("%d jobs of %d to %d calls" % (len(jobs), min(sizes), max(sizes)))


@limit(LIMIT_S)
@each(minor=["3.8", "3.11", "3.12", "3.13", "3.14"])
def test_asyncio(t, minor):
    """300 tasks all the time; a phase of 500 coroutines is counted."""
    interp = interpreters.one(minor)
    target = process.Target(interp, "asyncio", command=process.script(interp, "real_asyncio.py"))
    time.sleep(0.3)
    tracer = process.Tracer("-p", target.pid, "-o", t.path("trace.json.gz"), c_default=True)
    tracer.recording()
    target.send(b"x")
    counted = target.done(limit_s=120)
    no_loss(t, tracer.expect(0, stop=True))
    t.equal(target.finish(), 0, "exit status")
    got = trace.load(t.path("trace.json.gz"))
    t.equal(counted["counted_step"], 500, "coroutines that the program counted")
    steps = [s for s in got.slices() if s.name == "counted_step"]
    t.equal(len(steps), 1000, "slices of counted_step(): each begins once and goes on once")
    ticks = len(got.named("tick"))
    t.check(0 < ticks, "no tick in the trace")
    print("%d slices, %d ticks" % (got.count, ticks))
