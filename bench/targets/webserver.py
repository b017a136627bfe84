# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# A web server of the standard library on the loopback device. It prints its port and serves until
# it is killed; each answer tells the CPU time used so far. webclient.py is the other side.
import http.server
import json
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one segment an answer
    disable_nagle_algorithm = True

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        items = [{"id": i, "name": "item %d" % i} for i in range(int(query["n"][0]))]
        body = json.dumps({"items": items, "count": len(items)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-CPU", str(time.process_time_ns()))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("ready", server.server_address[1], flush=True)
server.serve_forever()
