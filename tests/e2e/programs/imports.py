# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Modules are imported in every way. With "watch" the program wraps importlib's _find_and_load(), which
C and Python look up anew each time, and says what it saw: [1, name] at an entry, [0, name] at an exit.
"""
import importlib
import importlib._bootstrap as bootstrap
import sys
import threading

SEEN = []
original = bootstrap._find_and_load


def watched(name, import_):
    SEEN.append([1, name])
    try:
        return original(name, import_)
    finally:
        SEEN.append([0, name])


def statements():
    import colorsys
    import xml.etree.ElementTree
    from email.mime import text
    from concurrent import futures as other_name
    import colorsys as again
    return colorsys, xml, text, other_name, again


def calls():
    importlib.import_module("wsgiref.util")
    importlib.import_module(".headers", "wsgiref")
    importlib.import_module("wsgiref.headers")
    __import__("stringprep")


def failures():
    for name in ("no_such_module", "email.no_such_module", "colorsys.not_a_package"):
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    try:
        from email import no_such_name
    except ImportError:
        pass


def in_a_thread():
    import sndhdr_or_not_there


def thread():
    try:
        in_a_thread()
    except ImportError:
        pass


def workload(*how):
    for name in ("small_a", "small_b"):
        sys.modules.pop(name, None)
    if how:
        bootstrap._find_and_load = watched
    import small_a
    statements()
    calls()
    failures()
    other = threading.Thread(target=thread)
    other.start()
    other.join()
    bootstrap._find_and_load = original
    return {"seen": SEEN, "used": small_a.value(1)}
