#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What a traced program may look like: reads a web server's log (made up here), with regular
expressions, JSON, a generator pipeline and two threads, and prints the slowest pages.

    weblog.py [LINES]
"""
import collections
import json
import queue
import random
import re
import sys
import threading
import time

LINE = re.compile(r'(?P<ip>\S+) \[(?P<time>[^]]+)\] "(?P<method>\w+) (?P<path>\S+)" '
                  r'(?P<status>\d{3}) (?P<extra>\{.*\})')
PAGES = ["/", "/search?q=bpf", "/item/%d", "/cart", "/api/v1/items?page=%d", "/static/app.js"]


def make_line(rng, number):
    path = rng.choice(PAGES)
    if "%d" in path:
        path = path % rng.randrange(500)
    extra = json.dumps({"ms": round(rng.expovariate(1 / 40), 2), "user": rng.randrange(100)})
    return '10.0.0.%d [%d] "GET %s" %d %s' % (
        rng.randrange(256), number, path, rng.choice((200, 200, 200, 304, 404, 500)), extra)


def make_log(lines):
    rng = random.Random(1)
    for number in range(lines):
        yield make_line(rng, number)


class Page:
    def __init__(self, name):
        self.name = name
        self.hits = 0
        self.errors = 0
        self.times = []

    def add(self, status, milliseconds):
        self.hits += 1
        self.times.append(milliseconds)
        if status >= 500:
            self.errors += 1

    def percentile(self, p):
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * p))]

    def summary(self):
        return {"page": self.name, "hits": self.hits, "errors": self.errors,
                "p50": self.percentile(0.5), "p95": self.percentile(0.95)}


def normalize(path):
    path = path.partition("?")[0]
    return re.sub(r"/\d+", "/N", path)


def parse(line):
    match = LINE.match(line)
    if not match:
        raise ValueError("not a log line: %r" % line)
    extra = json.loads(match["extra"])
    return normalize(match["path"]), int(match["status"]), extra["ms"], extra["user"]


class Analysis:
    def __init__(self):
        self.pages = {}
        self.users = collections.Counter()
        self.lock = threading.Lock()

    def add(self, record):
        path, status, milliseconds, user = record
        with self.lock:
            page = self.pages.get(path)
            if page is None:
                page = self.pages[path] = Page(path)
            page.add(status, milliseconds)
            self.users[user] += 1

    def report(self):
        rows = [page.summary() for page in self.pages.values()]
        return sorted(rows, key=lambda row: -row["p95"])


def worker(inbox, analysis):
    while True:
        chunk = inbox.get()
        if chunk is None:
            return
        for line in chunk:
            analysis.add(parse(line))


def chunks(lines, size):
    chunk = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def main():
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    begin = time.monotonic()
    inbox, analysis = queue.Queue(8), Analysis()
    workers = [threading.Thread(target=worker, args=(inbox, analysis)) for _ in range(2)]
    for thread in workers:
        thread.start()
    for chunk in chunks(make_log(lines), 100):
        inbox.put(chunk)
    for _ in workers:
        inbox.put(None)
    for thread in workers:
        thread.join()
    for row in analysis.report():
        print("%(page)-18s %(hits)6d hits %(errors)5d errors  p50 %(p50)7.2f ms  p95 %(p95)7.2f ms"
              % row)
    print("%d lines in %.2f s" % (lines, time.monotonic() - begin))


if __name__ == "__main__":
    main()
