# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# What many scripts do: take log lines apart with a regular expression, turn them into JSON and
# back, and sum them up. One unit is 100 lines. Protocol as in fib.py; calls are not counted (0).
import json
import re
import sys
import time

LINE = re.compile(r'(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<when>[^\]]+)\] '
                  r'"(?P<verb>\S+) (?P<path>\S+) \S+" (?P<code>\d+) (?P<size>\d+|-)')
ESCAPE = re.compile(r"%([0-9a-f]{2})")
LINES = ['10.0.%d.%d - user%d [10/Oct/2000:13:55:%02d -0700] "GET /page%%20%d/x.html HTTP/1.0" '
         '%d %d' % (i % 7, i % 251, i % 5, i % 60, i, 200 + i % 3, 1000 + 13 * i)
         for i in range(100)]


def unescape(match):
    return chr(int(match.group(1), 16))


def parse(line):
    row = LINE.match(line).groupdict()
    row["path"] = ESCAPE.sub(unescape, row["path"])
    row["size"] = int(row["size"])
    return row


def add(totals, row):
    entry = totals.setdefault(row["user"], {"hits": 0, "bytes": 0, "codes": []})
    entry["hits"] += 1
    entry["bytes"] += row["size"]
    if row["code"] not in entry["codes"]:
        entry["codes"].append(row["code"])


def work():
    totals = {}
    for line in LINES:
        add(totals, json.loads(json.dumps(parse(line))))
    return json.dumps(totals, indent=1, sort_keys=True)


def run(seconds):
    units, cpu, wall = 0, time.process_time_ns(), time.monotonic_ns()
    end = wall + int(seconds * 1e9)
    while time.monotonic_ns() < end:
        work()
        units += 1
    return units, 0, time.process_time_ns() - cpu, time.monotonic_ns() - wall


print("ready", flush=True)
for line in sys.stdin:
    print(*run(float(line)), flush=True)
