# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What comes and goes: stage 1, stage 2 (in which a test pauses the recording), stage 3; one for each
byte on stdin. Functions made in stage 1 are freed in stage 2 and others take their places; a thread
and a child begin in stage 2 and go on in stage 3, a thread begins before and ends in stage 2.
"""
import gc
import os
import threading

COUNT = 200


def make(prefix):
    space = {}
    for i in range(COUNT):
        exec("def %s_%d():\n    return %d" % (prefix, i, i), space)
    return [space["%s_%d" % (prefix, i)] for i in range(COUNT)]


def call_all(functions):
    for function in functions:
        function()


def ends_in_pause(go):
    go.wait()


def begins_in_pause(started, go):
    started.set()
    go.wait()
    after_pause()


def after_pause():
    return 1


def child_begins(pipe, begun):
    os.write(begun, b"x")
    os.read(pipe, 1)
    child_after_pause()


def child_after_pause():
    return 2


def stage_1(state):
    state["old"] = make("old")
    call_all(state["old"])
    state["go"] = threading.Event()
    state["ending"] = threading.Thread(target=ends_in_pause, args=(state["go"],))
    state["ending"].start()


def stage_2(state):
    del state["old"]
    gc.collect()
    state["new"] = make("new")
    state["go"].set()
    state["ending"].join()
    started, state["go"] = threading.Event(), threading.Event()
    state["going"] = threading.Thread(target=begins_in_pause, args=(started, state["go"]))
    state["going"].start()
    started.wait()
    read, state["pipe"] = os.pipe()
    has_begun, begun = os.pipe()
    state["child"] = os.fork()
    if state["child"] == 0:
        child_begins(read, begun)
        os._exit(0)
    os.read(has_begun, 1)


def stage_3(state):
    call_all(state["new"])
    state["go"].set()
    state["going"].join()
    os.write(state["pipe"], b"x")
    os.waitpid(state["child"], 0)


def main():
    state = {}
    os.write(1, b"ready %d\n" % os.getpid())
    for n, stage in enumerate((stage_1, stage_2, stage_3), 1):
        os.read(0, 1)
        stage(state)
        os.write(1, b"stage %d\n" % n)
    os.read(0, 1)


main()
