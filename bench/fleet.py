#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The agents of 500 hosts against one VictoriaMetrics, all on this machine: what docs/SCALING.md says.

    bench/fleet.py --load build/bench/fleet_load [--hosts 500] [--processes 10] [--interval 60]

fleet_load is the agents (see there). First the sizes of one message and one page are measured for
several numbers of processes; then the fleet sends, and VictoriaMetrics scrapes it as well; then it is
killed for two intervals and comes back. Prints tables.
"""
import argparse
import gzip
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("PYTRACE_CACHE", "/var/cache/pytrace-bpf")
SERVER = CACHE + "/roots/trixie/usr/bin/victoria-metrics"
PORT, SCRAPED = random.randrange(12000, 14000), 20000


def ask(url):
    with urllib.request.urlopen(url, timeout=300) as answer:
        return answer.read()


class Load:
    def __init__(self, program, folder, hosts, processes, interval_ms, endpoint, first_port, functions=10):
        self.lines, self.changed = [], threading.Condition()
        self.popen = subprocess.Popen(
            [program, *map(str, (hosts, processes, functions, interval_ms, endpoint, first_port,
                                 folder))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.popen.stdout:
            with self.changed:
                self.lines.append(dict(json.loads(line), at=time.monotonic()))
                self.changed.notify_all()

    def next(self):
        """What it says next."""
        with self.changed:
            count = len(self.lines)
            while len(self.lines) == count:
                if not self.changed.wait(300):
                    sys.exit("fleet.py: fleet_load says nothing")
            return self.lines[-1]

    def stop(self):
        self.popen.stdin.close()
        self.popen.wait(60)


class Sink(http.server.BaseHTTPRequestHandler):
    bodies = []

    def do_POST(self):
        Sink.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def sizes(program, folder):
    """Of one message and one page, by processes and functions."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT + 1), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("| processes | functions of each | series | OTLP message | compressed | `/metrics` | compressed |")
    print("|---|---|---|---|---|---|---|")
    for processes, functions in ((1, 10), (10, 10), (50, 10), (50, 40)):
        Sink.bodies.clear()
        load = Load(program, folder + "/sizes", 1, processes, 200, "http://127.0.0.1:%d" % (PORT + 1),
                    SCRAPED, functions)
        while len(Sink.bodies) < 20:
            time.sleep(0.1)
        page = ask("http://127.0.0.1:%d/metrics" % SCRAPED)
        load.stop()
        body = Sink.bodies[-1]
        series = sum(not line.startswith(b"#") for line in page.splitlines())
        print("| %d | %d | %d | %.1f KB | %.1f KB | %.1f KB | %.1f KB |" % (
            processes, functions, series, len(zlib.decompress(body, 31)) / 1e3, len(body) / 1e3,
            len(page) / 1e3, len(gzip.compress(page)) / 1e3))
        shutil.rmtree(folder + "/sizes/0", ignore_errors=True)
    server.shutdown()


class Server:
    def __init__(self, folder, hosts, interval_s):
        self.folder, self.url = folder, "http://127.0.0.1:%d" % PORT
        self.config = folder + "/scrape.json"
        with open(self.config, "w") as file:
            json.dump({"global": {"scrape_interval": "%ds" % interval_s},
                       "scrape_configs": [{"job_name": "agents", "static_configs": [
                           {"targets": ["127.0.0.1:%d" % (SCRAPED + i) for i in range(hosts)]}]}]}, file)
        self.start()

    def start(self):
        with open(self.folder + "/server.log", "ab") as log:
            self.popen = subprocess.Popen(
                [SERVER, "-storageDataPath=" + self.folder + "/data", "-promscrape.config=" + self.config,
                 "-httpListenAddr=127.0.0.1:%d" % PORT],
                stdout=log, stderr=log)
        while True:
            try:
                ask(self.url + "/health")
                return
            except OSError:
                time.sleep(0.05)

    def stop(self, number):
        self.popen.send_signal(number)
        self.popen.wait(60)

    def metrics(self):
        result = {}
        for line in ask(self.url + "/metrics").decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                result[name] = float(value)
        return result

    def used(self):
        """(CPU seconds, resident MB)"""
        with open("/proc/%d/stat" % self.popen.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        with open("/proc/%d/status" % self.popen.pid) as file:
            resident = next(int(x.split()[1]) for x in file if x.startswith("VmRSS"))
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), resident / 1024


def named(metrics, name, text=""):
    return sum(v for k, v in metrics.items() if k.partition("{")[0] == name and text in k)


def steady(load, server, args):
    """Some intervals without any trouble."""
    first = load.next()
    while load.next()["at"] - first["at"] < args.interval or args.hosts // 50 < load.next()["waiting"]:
        pass  # each one sends, and is scraped, for the first time: all series are new
    new_s = load.next()["at"] - first["at"]
    begin, (cpu, _), rows = load.next(), server.used(), server.metrics()
    while load.next()["at"] - begin["at"] < args.intervals * args.interval:
        pass
    end, (cpu_end, resident), rows_end = load.next(), server.used(), server.metrics()
    seconds = end["at"] - begin["at"]
    taken = {kind: named(rows_end, "vm_rows_inserted_total", kind) - named(rows, "vm_rows_inserted_total", kind)
             for kind in ("opentelemetry", "promscrape")}
    print("\n%d hosts, %d processes each, every %d s, for %.0f s; load of the machine before: %.1f, CPUs: %d\n" % (
        args.hosts, args.processes, args.interval, seconds, args.load_before, os.cpu_count()))
    print("| | by OTLP | by scraping |\n|---|---|---|")
    print("| requests/s | %.1f | %.1f |" % ((end["sent"] - begin["sent"]) / seconds,
                                             (end["scrapes"] - begin["scrapes"]) / seconds))
    print("| values/s | %.0f | %.0f |" % (taken["opentelemetry"] / seconds, taken["promscrape"] / seconds))
    print("| bytes/s | %.0f | %.0f (not compressed) |" % (
        (end["bytes"] - begin["bytes"]) / seconds,
        (end["scrape_bytes"] - begin["scrape_bytes"]) / seconds))
    print("\nSeries at work: %.0f; all were new to it after %.0f s" % (
        rows_end['vm_cache_entries{type="storage/hour_metric_ids"}'], new_s))
    print("\nVictoriaMetrics: %.2f of a CPU, %.0f MB resident; all %d agents: %.2f of a CPU; lost: %d" % (
        (cpu_end - cpu) / seconds, resident, args.hosts, (end["cpu_s"] - begin["cpu_s"]) / seconds,
        end["lost"]))


def outage(load, server, args):
    """Killed, and back after some intervals: how much comes how fast, and is all of it there?"""
    server.stop(signal.SIGKILL)
    begin = load.next()
    while load.next()["at"] - begin["at"] < 2 * args.interval:
        pass
    before = load.next()
    server.start()
    peak, last, done = 0, before, None
    while not done:
        now = load.next()
        peak = max(peak, (now["sent"] - last["sent"]) / (now["at"] - last["at"]))
        done = now["at"] if now["waiting"] <= args.hosts // 50 else None
        last = now
    print("\nAway for %.0f s: %d messages waited, %d requests had failed; back: the most in a second was %.0f, "
          "and %.0f s later all had come; lost: %d" % (
              before["at"] - begin["at"], before["waiting"], before["retries"] - begin["retries"], peak,
              done - before["at"], last["lost"]))
    ask(server.url + "/internal/force_flush")
    ask(server.url + "/internal/force_merge")
    time.sleep(5)
    rows = server.metrics()
    size = named(rows, "vm_data_size_bytes", "storage/")
    index = named(rows, "vm_data_size_bytes", "indexdb/")
    count = named(rows, "vm_rows", "storage/")
    print("On disk: %.0f values in %.1f MB, %.2f bytes each, and %.1f MB of index" % (
        count, size / 1e6, size / max(count, 1), index / 1e6))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", required=True, metavar="PROGRAM")
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--interval", type=int, default=60, metavar="SECONDS")
    parser.add_argument("--intervals", type=int, default=3, metavar="N", help="that are measured")
    args = parser.parse_args()
    if not os.access(SERVER, os.X_OK):
        sys.exit("fleet.py: %s is not there; scripts/interpreters.sh makes it" % SERVER)
    args.load_before = os.getloadavg()[0]
    folder = tempfile.mkdtemp(prefix="pytrace-fleet.")
    os.makedirs(folder + "/sizes")
    os.makedirs(folder + "/spool")
    server = load = None
    try:
        sizes(args.load, folder)
        server = Server(folder, args.hosts, args.interval)
        load = Load(args.load, folder + "/spool", args.hosts, args.processes, args.interval * 1000,
                    server.url + "/opentelemetry", SCRAPED)
        steady(load, server, args)
        outage(load, server, args)
    finally:
        for thing in (load, server):
            if thing and thing.popen.poll() is None:
                thing.popen.kill()
                thing.popen.wait()
        shutil.rmtree(folder, ignore_errors=True)


main()
