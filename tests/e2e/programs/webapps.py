# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""A web server of a kind: webapps.py wsgiref|gthread|uvicorn. Says "ready PID PORT", the process being the
one that serves. What it answers to /NAME/SECONDS takes so long; NAME chooses who handles it: plain, flask,
django; to uvicorn there is only plain, which waits five times a fifth of it."""
import asyncio
import os
import socket
import socketserver
import sys
import time


def pause(path):
    time.sleep(float(path.rpartition("/")[2]))


def plain(environ, start_response):
    pause(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]


def flask_app():
    import flask
    app = flask.Flask("webapps")

    @app.route("/flask/<seconds>")
    def slow(seconds):
        pause(seconds)
        return "ok\n"
    return app


def django_app():
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    def slow(request, seconds):
        pause(seconds)
        return HttpResponse("ok\n")
    settings.configure(ROOT_URLCONF=(path("django/<seconds>", slow),), ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    django.setup()
    return WSGIHandler()


def all_of(flask, django):
    def app(environ, start_response):
        first = environ["PATH_INFO"].split("/")[1]
        return {"flask": flask, "django": django}.get(first, plain)(environ, start_response)
    return app


def ready(port):
    os.write(1, b"ready %d %d\n" % (os.getpid(), port))


def wsgiref():
    from wsgiref import simple_server

    class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
        daemon_threads = True

    class Handler(simple_server.WSGIRequestHandler):
        def log_message(self, *args):
            pass
    server = simple_server.make_server("127.0.0.1", 0, all_of(flask_app(), django_app()), Server, Handler)
    ready(server.server_port)
    server.serve_forever()


def gthread():
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", "127.0.0.1:0")
            self.cfg.set("worker_class", "gthread")
            self.cfg.set("threads", 2)
            self.cfg.set("post_worker_init", lambda worker: ready(worker.sockets[0].sock.getsockname()[1]))

        def load(self):
            return plain
    Application().run()


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    for _ in range(5):
        await asyncio.sleep(float(scope["path"].rpartition("/")[2]) / 5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})


def uvicorn():
    import uvicorn as module
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    ready(listener.getsockname()[1])
    config = module.Config(asgi, loop="asyncio", http="h11", lifespan="off", log_level="error")
    asyncio.run(module.Server(config).serve(sockets=[listener]))


{"wsgiref": wsgiref, "gthread": gthread, "uvicorn": uvicorn}[sys.argv[1]]()
