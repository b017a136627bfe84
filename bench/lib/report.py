# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""docs/BENCHMARKS.md from results.json; nothing in it is written by hand."""
from lib import agent, attach, convert, cost, cuda, stats

HEAD = """# Benchmarks

Written by `make bench` from `bench/results.json`; do not edit. A figure is the median of its
rounds, with the quartiles in brackets. Ratios are taken within a round, between slices that lie
next to each other in time, so that a noisy machine blurs them less.
"""


def _spread(value):
    return "%g (%g – %g)" % (value["median"], value["q1"], value["q3"])


def _rows(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cost(section):
    text = ("One event is an enter or an exit of a Python function; the program is fib, which does "
            "nothing but call. *Empty* is a BPF program that returns at once, at the same sites; "
            "*recording* is what pytrace-bpf runs, its ring buffer drained meanwhile. The costs "
            "are the target's own CPU time over running without probes.\n\n")
    return text + _rows(
        ["interpreter", "engine", "sites (stepped)", "links", "processes", "no probes, ns a call",
         "empty, ns an event", "recording, ns an event", "ratio", "bytes an event", "lost"],
        [[r["interpreter"], r["engine"], "%d (%d)" % (r["sites"], r["sites_single_stepped"]),
          r["link_kind"], r["processes"], _spread(r["base_ns_per_call"]),
          _spread(r["empty_ns_per_event"]), _spread(r["record_ns_per_event"]),
          _spread(r["ratio"]), r["bytes_per_event"]["median"],
          "%d of %d" % (r["lost_events"], r["events"])] for r in section["rows"]])


def _attach(section):
    return ("From the start of `pytrace-bpf -p PID` to its line that it records, the target being "
            "busy. *Cold*: nothing cached, neither the finder's results nor the kernel's "
            "calibration. *Queue*: the part of it in which other work of the machine had the "
            "CPU.\n\n" + _rows(
                ["interpreter", "cold, ms", "of it queue", "cached, ms", "of it queue"],
                [[r["interpreter"], _spread(r["cold_ms"]), r["cold_queue_ms"]["median"],
                  _spread(r["cached_ms"]), r["cached_queue_ms"]["median"]]
                 for r in section["rows"]]))


def _finder(section):
    rows, seen = [], set()
    for row in section["rows"]:
        if row["interpreter"] not in seen:
            seen.add(row["interpreter"])
            rows.append([row["interpreter"], row["find_cold_ms"], row["find_cached_ms"]])
    return ("\nThe finder alone (best of five, loading one interpreter file):\n\n" +
            _rows(["interpreter", "cold, ms", "cached, ms"], rows))


def _noloss(section):
    return ("fib in a loop on one CPU, pytrace-bpf with default buffers on the other. *Made* is "
            "what the program counted itself, *recorded* what the finished file holds.\n\n" + _rows(
                ["interpreter", "output", "seconds", "calls made", "calls recorded",
                 "events a second", "lost", "file, bytes an event", "finished after, s"],
                [[r["interpreter"], r["output"], r["seconds"], r["calls_made"],
                  r["calls_recorded"], r["events_per_second"], r["lost"], r["file_bytes_per_event"],
                  r["finish_seconds"]] for r in section["rows"]]))


def _convert(section):
    return ("`pytrace-bpf replay` pinned to one CPU; without gzip to /dev/null, with gzip to a "
            "file. Million events per second of its CPU time (and of wall time, which other work "
            "on the machine lengthens). Resident memory is the largest of the runs.\n\n" + _rows(
                ["capture", "events", "JSON", "JSON, wall", ".json.gz", ".json.gz, wall",
                 "reading and modelling alone", "capture, bytes an event",
                 ".json.gz, bytes an event", "resident MiB"],
                [[r["program"], r["events"], _spread(r["million_events_per_second"]),
                  r["wall_million_events_per_second"]["median"],
                  _spread(r["gzip_million_events_per_second"]),
                  r["gzip_wall_million_events_per_second"]["median"],
                  r["model_million_events_per_second"], r["capture_bytes_per_event"],
                  r["json_gz_bytes_per_event"], r["resident_mib"]] for r in section["rows"]]))


def _slowdown(section):
    return ("Time for the same work, traced over untraced; 1 is no slowdown. pytrace-bpf records "
            "everything into a .json.gz; bpftrace only counts the hits of the same sites. *After* "
            "is the CPU time once pytrace-bpf has gone, over that before.\n\n" + _rows(
                ["interpreter", "program", "pytrace-bpf, wall", "bpftrace, wall",
                 "pytrace-bpf, CPU", "bpftrace, CPU", "after", "rounds with loss"],
                [[r["interpreter"], r["program"], _spread(r["tool_wall"]), _spread(r["peer_wall"]),
                  _spread(r["tool_cpu"]), _spread(r["peer_cpu"]), _spread(r["after"]),
                  "%d of %d" % (r["rounds_with_loss"], r["after"]["rounds"])]
                 for r in section["rows"]]))


def _features(section):
    return ("The target's CPU time for one thing, done in a Python function: untraced, what tracing "
            "adds without the option (the function's own call and return), and what the option "
            "adds to that. Where *without* names an option, it is what the middle column ran "
            "with.\n\n" + _rows(
                ["interpreter", "what", "options", "without", "untraced, ns", "traced, ns",
                 "the option, ns"],
                [[r["interpreter"], r["feature"], "`%s`" % r["options"] if r["options"] else "",
                  "`%s`" % r["without"] if r["without"] else "", _spread(r["base_ns"]),
                  _spread(r["off_ns"]), _spread(r["on_ns"])] for r in section["rows"]]))


def _cuda(section):
    return ("A Python loop calls one function of a CUDA toolkit's libcudart by ctypes; there is no "
            "driver, so it fails at once. *Empty* is a BPF program that returns at once, at the "
            "function's entry and at its return; *recording* is what pytrace-bpf runs. Costs are "
            "the target's CPU time per call over running without probes. *A loop of 10 us calls* is "
            "reckoned from that: by how much it becomes slower.\n\n" + _rows(
                ["interpreter", "library", "function", "no probes, ns a call", "empty, ns a call",
                 "recording, ns a call", "ratio", "a loop of 10 us calls"],
                [[r["interpreter"], r["library"], r["function"], _spread(r["base_ns"]),
                  _spread(r["empty_ns"]), _spread(r["record_ns"]), _spread(r["ratio"]),
                  "%.2f" % (1 + r["record_ns"]["median"] / 10000)]
                 for r in section["rows"]]))


def _overhead(section):
    return ("A program that does nothing but call, under `--max-overhead`. *Real* is how much more "
            "CPU time it took for the same work than untraced, rests included; *said* is what the "
            "tool reckoned; *recorded* is the share of the time that lies in windows.\n\n" + _rows(
                ["interpreter", "limit", "real, %", "said, %", "recorded, % of the time"],
                [[r["interpreter"], r["limit"], _spread(r["real_percent"]),
                  _spread(r["said_percent"]), _spread(r["recorded_percent"])]
                 for r in section["rows"]]))


def _agent(section):
    idle = [r for r in section["rows"] if r["what"] == "idle"]
    web = [r for r in section["rows"] if r["what"] == "web"]
    return ("The agent by `engine` of `record`, all else as it is by default. Beside processes that "
            "sleep, its CPU time second by second, in percent of one CPU; what others start on the "
            "machine meanwhile is looked at, too. Beside gunicorn with one worker, ApacheBench on "
            "another CPU: the worker's CPU time for a request, and requests a second, without and "
            "with the agent in turns.\n\n" + _rows(
                ["engine", "idle processes", "CPU, %", "resident MiB"],
                [[r["engine"], r["processes"], _spread(r["cpu_percent"]), r["resident_mib"]] for r in idle]) +
            "\n" + _rows(
                ["engine", "requests", "us alone", "us with it", "more, %", "a second alone",
                 "a second with it", "fewer, %"],
                [[r["engine"], r["requests"], _spread(r["plain_us"]), _spread(r["agent_us"]),
                  _spread(r["cpu_percent"]), _spread(r["plain_per_s"]),
                  _spread(r["agent_per_s"]), _spread(r["slower_percent"])] for r in web]))


TITLES = {"cost": ("Cost per event", _cost), "attach": ("Attach to gate", _attach),
          "noloss": ("No loss", _noloss), "convert": ("Capture to JSON", _convert),
          "slowdown": ("Slowdown", _slowdown), "features": ("Cost of options", _features),
          "cuda": ("Cost per CUDA call", _cuda),
          "overhead": ("A limit on overhead", _overhead),
          "agent": ("The agent", _agent)}


def _cost_goals(rows):
    worst = max(rows, key=lambda r: r["ratio"]["median"])
    yield stats.goal("cost per event over an empty program, worst (%s)" % worst["interpreter"],
                     worst["ratio"]["median"], cost.LIMIT_RATIO)
    yield stats.goal("bytes per event, worst", max(r["bytes_per_event"]["median"] for r in rows),
                     cost.LIMIT_BYTES)
    yield stats.goal("events lost, two processes on two CPUs",
                     sum(r["lost_events"] for r in rows if r["processes"] == 2), 0)
    debian = [r for r in rows if r["interpreter"].startswith("system-3.11")]
    if debian:
        yield stats.goal("finder, Debian 3.11, cold", debian[0]["find_cold_ms"],
                         attach.LIMIT_FIND_COLD_MS, unit="ms")
        yield stats.goal("finder, Debian 3.11, cached", debian[0]["find_cached_ms"],
                         attach.LIMIT_FIND_CACHED_MS, unit="ms")


def _attach_goals(rows):
    for row in rows:
        if row["interpreter"].startswith("system-3.11"):
            for name in ("cold", "cached"):
                yield stats.goal("attach to gate, Debian 3.11, " + name,
                                 row[name + "_ms"]["median"], attach.LIMIT_GATE_MS, unit="ms")


def _noloss_goals(rows):
    yield stats.goal("events lost, default buffers, a pure call loop",
                     sum(r["lost"] for r in rows), 0)
    yield stats.goal("calls made but not in the file, or the reverse",
                     sum(abs(r["calls_made"] - r["calls_recorded"]) for r in rows), 0)


def _convert_goals(rows):
    yield stats.goal("capture to JSON without gzip, one core, slowest",
                     min(r["million_events_per_second"]["median"] for r in rows),
                     convert.LIMIT_EVENTS_PER_SECOND / 1e6, False, "million events/s")
    largest = max(rows, key=lambda r: r["events"])
    yield stats.goal("resident memory converting %.0f million events" % (largest["events"] / 1e6),
                     largest["resident_mib"], convert.LIMIT_MIB, unit="MiB")


def _no_goals(rows):
    return ()


def _cuda_goals(rows):
    worst = max(rows, key=lambda r: r["ratio"]["median"])
    yield stats.goal("cost per CUDA call over an empty program", worst["ratio"]["median"],
                     cuda.LIMIT_RATIO)


def _overhead_goals(rows):
    for limit in sorted({r["limit"] for r in rows}):
        worst = max((r for r in rows if r["limit"] == limit),
                    key=lambda r: r["real_percent"]["median"])
        yield stats.goal("overhead with --max-overhead %s (%s)" % (limit, worst["interpreter"]),
                         worst["real_percent"]["median"], float(limit.rstrip("%")), unit="%")


def _agent_goals(rows):
    for r in rows:
        if r["what"] == "idle":
            yield stats.goal("CPU of the agent beside %d idle processes (%s)" % (
                r["processes"], r["engine"]),
                             r["cpu_percent"]["median"], agent.LIMIT_IDLE_PERCENT, unit="%")
            yield stats.goal("resident memory of the agent then (%s)" % r["engine"],
                             r["resident_mib"],
                             agent.LIMIT_MIB, unit="MiB")
        elif r["engine"] == "sample":  # the default; the other one costs what each call costs
            yield stats.goal("requests a second that the agent costs a web server (%s)" % r["engine"],
                             r["slower_percent"]["median"], agent.LIMIT_WEB_PERCENT, unit="%")


GOALS = {"cost": _cost_goals, "attach": _attach_goals, "noloss": _noloss_goals,
         "convert": _convert_goals, "slowdown": _no_goals,
         "features": _no_goals, "cuda": _cuda_goals, "overhead": _overhead_goals,
         "agent": _agent_goals}


def goals(results):
    found = []
    for name, make in GOALS.items():
        if results.get(name, {}).get("rows"):
            found += make(results[name]["rows"])
    return found


def _machine(results):
    machine = next(results[n]["machine"] for n in TITLES if n in results)
    return ("Measured on: %(cpu)s, %(cpus)d CPUs (virtual machine: %(virtual)s), "
            "%(memory_mib)d MiB, kernel %(kernel)s, %(distribution)s. Versions: %(tool)s "
            "(commit %(commit)s), libbpf %(libbpf)s, zlib %(zlib)s, %(bpftrace)s.\n" % machine)


def table(results):
    parts = [HEAD, _machine(results), "## Figures to reach\n"]
    parts.append(_rows(["figure", "measured", "to reach", "reached"], [
        [g["name"], ("%g %s" % (g["value"], g["unit"])).strip(),
         "%s %g" % ("≤" if g["at_most"] else "≥", g["limit"]), "yes" if g["met"] else "**no**"]
        for g in goals(results)]))
    for name, (title, write) in TITLES.items():
        section = results.get(name)
        if not section:
            continue
        parts.append("## %s\n" % title)
        parts.append("Measured %s, commit %s; load before %g, nice %d, stolen by the host "
                     "meanwhile %g %%%s.\n" % (
                         section["at"], section["machine"]["commit"], section["load_before"],
                         section["nice"], section["stolen_percent"],
                         "; **a quick run**" if section["quick"] else ""))
        if section.get("error"):
            parts.append("Not complete: %s\n" % section["error"])
        if section["rows"]:
            parts.append(write(section))
            if name == "cost":
                parts.append(_finder(section))
    return "\n".join(parts)
