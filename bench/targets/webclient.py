# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# Asks webserver.py, one request after the other on one connection. The port is the argument; the
# protocol is that of fib.py; a unit is a request and the CPU time is the server's.
import http.client
import sys
import time

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)


def ask():
    connection.request("GET", "/items?n=10")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit("webclient: the server answered %d" % answer.status)
    return int(answer.headers["X-CPU"])


def run(seconds):
    units, cpu, wall = 0, ask(), time.monotonic_ns()
    end = wall + int(seconds * 1e9)
    last = cpu
    while time.monotonic_ns() < end:
        last = ask()
        units += 1
    return units, 0, last - cpu, time.monotonic_ns() - wall


print("ready", flush=True)
for line in sys.stdin:
    print(*run(float(line)), flush=True)
