# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A flask server on a port of its choice: "ready PID PORT". /counted/N is what the test counts."""
import logging
import os
import re
import sys
import threading

from flask import Flask, jsonify, render_template_string
from werkzeug.serving import make_server

app = Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
lock = threading.Lock()
served = {"counted": 0, "other": 0}


def checksum(text):
    return sum(ord(c) for c in re.findall(r"\w", text)[0:5])


@app.route("/counted/<int:n>")
def counted(n):
    with lock:
        served["counted"] += 1
    return jsonify(n=n, sum=checksum("abc%d" % n))


@app.route("/other")
def other():
    with lock:
        served["other"] += 1
    return render_template_string("{% for x in xs %}<li>{{ x * x }}</li>{% endfor %}", xs=range(20))


@app.route("/served")
def report():
    return jsonify(**served)


server = make_server("127.0.0.1", 0, app, threaded=True)
os.write(1, b"ready %d %d\n" % (os.getpid(), server.server_port))
threading.Thread(target=server.serve_forever, daemon=True).start()
os.read(0, 1)
server.shutdown()
sys.exit(0)
