#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Records a real program and opens the trace in speedscope, in a headless Chromium: each slice must be
there, under its name.

    tests/browser/run.py TOOL BUILD [SCREENSHOT.png]

The npm packages (pinned in package-lock.json) are installed into BUILD/browser.
"""
import json
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
from harness import trace  # noqa: E402

TOOL, BUILD = (os.path.abspath(x) for x in sys.argv[1:3])
WORK = os.path.join(BUILD, "browser")
SCREENSHOT = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else os.path.join(WORK, "speedscope.png")


def skip(reason):
    print("skipped browser.speedscope: " + reason)
    print("browser: 0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def install():
    os.makedirs(WORK, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc", "speedscope.mjs"):
        shutil.copy(os.path.join(HERE, name), WORK)
    with open(os.path.join(HERE, "package-lock.json"), "rb") as file:
        wanted = file.read()
    stamp = os.path.join(WORK, "installed")
    if os.path.exists(stamp) and open(stamp, "rb").read() == wanted:
        return
    done = subprocess.run(["npm", "ci", "--silent"], cwd=WORK, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=300)
    if done.returncode:
        raise AssertionError("npm ci failed: " + done.stdout[-500:])
    with open(stamp, "wb") as file:
        file.write(wanted)


def record():
    path = os.path.join(WORK, "trace.json")
    # Without the importing at the start, which would fill most of the picture; from a folder that is
    # the same wherever the repository lies.
    folder = "/tmp/weblog"
    os.makedirs(folder, exist_ok=True)
    shutil.copy(os.path.join(TOP, "examples/weblog.py"), folder)
    try:
        subprocess.run([TOOL, "-q", "--no-call-ids", "--exclude-file", "<frozen *", "--exclude-file",
                        "/usr/lib/python3*/re/*", "-o", path, "--", "/usr/bin/python3",
                        folder + "/weblog.py", "400"], check=True, timeout=120,
                       stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder)
    return path


def expected(path):
    """{thread: {name: slices}}: calls, and what else is on the threads' tracks."""
    threads = {}
    for event in trace.load(path).events:
        if event["ph"] == "X":
            names = threads.setdefault((event["pid"], event["tid"]), {})
            name = event["name"]
            if event.get("args"):  # speedscope shows them behind the name
                name += " " + json.dumps(event["args"], separators=(",", ":"))
            names[name] = names.get(name, 0) + 1
    return threads


def test(path):
    done = subprocess.run(["node", "speedscope.mjs", path, SCREENSHOT], cwd=WORK,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          timeout=180)
    if done.returncode:
        raise AssertionError("speedscope.mjs failed: " + done.stderr[-1000:])
    shown = json.loads(done.stdout)
    wanted = expected(path)
    got = [p["names"] for p in shown["profiles"]]
    for key, names in wanted.items():
        if names not in got:
            raise AssertionError("thread %s: %d slices of %d functions; speedscope has %s" % (
                key, sum(names.values()), len(names),
                [(p["name"], p["opens"]) for p in shown["profiles"]]))
    slices = sum(sum(names.values()) for names in wanted.values())
    opens = sum(p["opens"] for p in shown["profiles"])
    closes = sum(p["closes"] for p in shown["profiles"])
    if not opens == closes == slices:
        raise AssertionError("%d slices; speedscope opens %d and closes %d" % (slices, opens, closes))
    if shown["console"]:
        raise AssertionError("the page complains: %s" % shown["console"])
    if os.path.getsize(SCREENSHOT) < 20000:
        raise AssertionError("the screenshot is empty")
    return "%d slices in %d threads, %s" % (slices, len(wanted), SCREENSHOT)


def main():
    if not (shutil.which("chromium") or shutil.which("chromium-browser") or
            shutil.which("google-chrome")):
        skip("no chromium here (scripts/setup.sh test installs it on Debian)")
    if not shutil.which("npm"):
        skip("no npm here (scripts/setup.sh test installs it)")
    try:
        install()
        print("ok      browser.speedscope  " + test(record()))
    except (AssertionError, subprocess.SubprocessError, OSError) as error:
        print("FAILED  browser.speedscope  %s" % error)
        print("browser: 0 passed, 1 failed")
        return 1
    print("browser: 1 passed, 0 failed")
    return 0


sys.exit(main())
