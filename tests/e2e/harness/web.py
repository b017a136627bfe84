# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Questions by HTTP, at an address as the tool says it."""
import http.client
import socket

from . import process


def connect(url):
    """unix:/PATH or http[s]://ADDRESS:PORT"""
    if url.startswith("unix:"):
        result = socket.socket(socket.AF_UNIX)
        result.settimeout(process.WAIT_S)
        result.connect(url[len("unix:"):])
        return result
    host, port = url.rpartition("/")[2].rsplit(":", 1)
    return socket.create_connection((host, int(port)), process.WAIT_S)


def ask(sock, method, path, headers=None, body=None):
    """(status, headers, text); the socket is closed then."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()
