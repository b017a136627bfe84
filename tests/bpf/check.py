# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""check.py BPFDUMP INTERPRETER BINARY PLAN [bpfdump options]

Runs tests/bpf/program.py twice under INTERPRETER: once recording itself (sys.monitoring, or
sys.setprofile up to 3.11), once under bpfdump, and compares the order of enters and exits of the
program's own functions per thread. Exit status 0 if all are equal.
"""
import collections
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import records  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")


def truth(python, folder):
    out = os.path.join(folder, "truth.json")
    subprocess.run([python, PROGRAM, "truth", out], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    return {k: [tuple(e) for e in v] for k, v in json.load(open(out)).items()}


def record(dump, python, binary, plan, options, folder):
    out = os.path.join(folder, "records")
    target = subprocess.Popen([python, PROGRAM, "run"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert target.stdout.readline() == "ready\n"
    tracer = subprocess.Popen([dump, "-p", str(target.pid), "-o", out] + options + [binary, plan],
                              stdout=subprocess.PIPE, text=True)
    line = tracer.stdout.readline()
    if line != "open\n":
        target.kill()
        sys.exit("bpfdump did not start: %s" % line)
    start = time.time()
    target.stdin.write("go\n")
    target.stdin.close()
    assert target.wait() == 0
    print("target: %.2f s" % (time.time() - start))
    time.sleep(0.2)
    tracer.terminate()
    print(tracer.communicate()[0].strip())
    return records.Recording(out)


def by_thread(recording):
    """Threads by their first own function's name, as the truth has them."""
    result, odd = {}, collections.Counter()
    for key in recording.keys():
        events = []
        for _, kind, code, depth in recording.calls(key):
            if kind not in ("enter", "exit"):
                odd[kind] += 1
            elif code and code.file and code.file.endswith("/program.py"):
                events.append((kind, code.name, code.line))
        # the main thread is in the midst of <module>, which ends after the truth does
        events = [e for e in events if e[1] not in ("<module>", "wait_for_go", "main")]
        if events:
            name = events[0][1] if key[1] != recording.batches_tgid(key) else "main"
            while name in result:
                name += "+"
            result[name] = events
    return result, odd


def main():
    dump, python, binary, plan = sys.argv[1:5]
    with tempfile.TemporaryDirectory() as folder:
        want = truth(python, folder)
        recording = record(dump, python, binary, plan, sys.argv[5:], folder)
        got, odd = by_thread(recording)
    failed = bool(recording.problems)
    print("odd:", dict(odd), "problems:", recording.problems[:5])
    for name in sorted(set(want) | set(got)):
        a, b = want.get(name, []), got.get(name, [])
        if a == b:
            print("%-12s %d events equal" % (name, len(a)))
            continue
        failed = True
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        print("%-12s differs: %d and %d events, first at %d" % (name, len(a), len(b), at))
        for i in range(max(0, at - 5), at + 6):
            print("   ", a[i] if i < len(a) else None, "|", b[i] if i < len(b) else None)
    print("FAILED" if failed else "equal")
    sys.exit(failed)


if __name__ == "__main__":
    main()
