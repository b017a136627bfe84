# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""An application for a WSGI server."""


def wsgi_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


app = wsgi_app
