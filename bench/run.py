#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Runs the benchmarks as root, writes results.json and, from that alone, the table.

    bench/run.py --build build --results bench/results.json --table docs/BENCHMARKS.md [SECTION..]

Sections that are not named keep what results.json has of them; each says when it was measured.
"""
import argparse
import json
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "tests/e2e")]

from harness import interpreters  # noqa: E402  (the path is set above)
from lib import (agent, attach, convert, cost, cuda, features, machine, noloss, overhead,  # noqa: E402
                 proc, report, slowdown)


class Bench:
    def __init__(self, build, quick, only=None):
        self.build = build
        self.tool = os.path.join(build, "pytrace-bpf")
        self.cost_program = os.path.join(build, "bench/event_cost")
        self.quick = quick
        self.only = only
        self.found = interpreters.every()

    def pick(self, full, quick):
        return quick if self.quick else full

    def chosen(self, *prefixes):
        """The interpreters whose names start so, in this order; absent ones are said."""
        picked = []
        for prefix in prefixes:
            if self.only and prefix != self.only:
                continue
            fit = [i for i in self.found if i.name.startswith(prefix) and not i.name.endswith("d")]
            if not fit:
                say("no interpreter %s* here; run scripts/interpreters.sh" % prefix)
            picked += fit[:1]
        return picked


def say(text):
    print("bench: %s" % text, file=sys.stderr, flush=True)


def cost_rows(bench):
    rounds, seconds = bench.pick((15, 0.4), (2, 0.1))
    plan = [(i, {}) for i in bench.chosen("pyenv-3.8", "pyenv-3.10", "system-3.11", "pyenv-3.12",
                                          "pyenv-3.13", "sid-3.13", "sid-3.14", "sid-3.15")]
    plan += [(i, {"engine": "usdt"}) for i in bench.chosen("bullseye-3.9")]
    plan += [(i, {"reach": "process"}) for i in bench.chosen("system-3.11", "pyenv-3.12")]
    plan += [(i, {"cpus": (0, 1), "tracer_cpu": None})
             for i in bench.chosen("system-3.11", "pyenv-3.12")]
    for interpreter, options in plan[:bench.pick(None, 4)]:
        say("cost per event: %s %s" % (interpreter, options or ""))
        row = cost.measure(bench.cost_program, interpreter, rounds, seconds, **options)
        yield dict(row, interpreter=interpreter.name, reach=options.get("reach", "file"),
                   processes=len(options.get("cpus", (0,))))


def attach_rows(bench):
    for interpreter in bench.chosen("system-3.11", "pyenv-3.12", "sid-3.14"):
        say("attach to gate: %s" % interpreter)
        yield dict(attach.measure(bench.tool, interpreter, bench.pick(11, 2)),
                   interpreter=interpreter.name)


def noloss_rows(bench):
    for interpreter in bench.chosen("system-3.11", "pyenv-3.12"):
        for suffix in (".ptcap", ".json.gz"):
            say("no loss: %s %s" % (interpreter, suffix))
            yield dict(noloss.measure(bench.tool, interpreter, bench.pick(30, 2), suffix),
                       interpreter=interpreter.name)


def convert_rows(bench):
    interpreter = bench.chosen("system-3.11")[0]
    for program, events, rounds in (("jsonre.py", bench.pick(5_000_000, 500_000), 3),
                                    (None, bench.pick(50_000_000, 1_000_000), 1)):
        say("capture to JSON: %s" % (program or "synthetic"))
        yield convert.measure(bench.build, interpreter, program, events, rounds)


def slowdown_rows(bench):
    if not shutil.which("bpftrace"):
        raise proc.BenchError("bpftrace is missing: apt-get install bpftrace")
    for interpreter in bench.chosen("system-3.11", "pyenv-3.12")[:bench.pick(None, 1)]:
        for program in slowdown.PROGRAMS:
            say("slowdown: %s %s" % (interpreter, program))
            row = slowdown.measure(bench.tool, bench.cost_program, interpreter, program,
                                   bench.pick(5, 1), bench.pick(1.2, 0.3))
            yield dict(row, interpreter=interpreter.name)


def feature_rows(bench):
    for interpreter in bench.chosen("system-3.11", "pyenv-3.12", "sid-3.14")[:bench.pick(None, 1)]:
        for feature in features.FEATURES:
            say("features: %s %s" % (interpreter, feature[0]))
            row = features.measure(bench.tool, interpreter, feature, *bench.pick((5, 0.3),
                                                                                  (1, 0.2)))
            yield dict(row, interpreter=interpreter.name)


def cuda_rows(bench):
    rounds, seconds = bench.pick((15, 0.4), (2, 0.1))
    for interpreter in bench.chosen("pyenv-3.12", "system-3.11")[:1]:
        say("cost per CUDA call: %s" % interpreter)
        yield dict(cuda.measure(bench.cost_program, interpreter, rounds, seconds),
                   interpreter=interpreter.name)


def overhead_rows(bench):
    for interpreter in bench.chosen("system-3.11", "pyenv-3.12")[:bench.pick(None, 1)]:
        for limit in overhead.LIMITS:
            say("overhead: %s %s" % (interpreter, limit))
            row = overhead.measure(bench.tool, interpreter, limit, *bench.pick((5, 20), (1, 5)))
            yield dict(row, interpreter=interpreter.name)


def agent_rows(bench):
    say("the agent beside idle processes")
    found = bench.chosen("system-3.11", "pyenv-3.8", "pyenv-3.12", "pyenv-3.13")
    for engine in agent.ENGINES:
        yield agent.idle(bench.tool, found, engine, *bench.pick((50, 40), (5, 3)))
        say("the agent beside a web server: %s" % engine)
        yield agent.web(bench.tool, engine, *bench.pick((9, 5000), (1, 500)))


SECTIONS = {"cost": cost_rows, "attach": attach_rows, "noloss": noloss_rows,
            "convert": convert_rows, "slowdown": slowdown_rows, "features": feature_rows,
            "cuda": cuda_rows, "overhead": overhead_rows,
            "agent": agent_rows}


def load(path):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def save(path, text):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".tmp", "w") as file:
        file.write(text)
    os.replace(path + ".tmp", path)


def run(options):
    bench = Bench(options.build, options.quick, options.only)
    results = load(options.results)
    failed = False
    for name in options.sections or SECTIONS:
        moment = machine.Moment()
        section = {"quick": options.quick, "machine": machine.describe(bench.tool), "rows": []}
        try:
            for row in SECTIONS[name](bench):
                section["rows"].append(row)
                print(json.dumps(row), flush=True)
        except (proc.BenchError, OSError) as error:
            say("%s: %s" % (name, error))
            section["error"] = str(error)
            failed = True
        results[name] = dict(moment.fields(), **section)
        save(options.results, json.dumps(results, indent=1) + "\n")
        save(options.table, report.table(results))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--results", default="bench/results.json")
    parser.add_argument("--table", default="docs/BENCHMARKS.md")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", metavar="NAME",
                        help="of the interpreters of a section this one, such as system-3.11")
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="SECTION",
                        help="of: " + " ".join(SECTIONS))
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: must run as root: the tracer needs it")
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: two CPUs are needed, one for the target and one for the tracer")
    return 1 if run(options) else 0


if __name__ == "__main__":
    sys.exit(main())
