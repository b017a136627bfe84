# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Tasks for a celery worker: the broker is the folder beside this file, and six tasks wait there."""
import os
import time

from celery import Celery

HERE = os.path.dirname(os.path.abspath(__file__))
QUEUE, DONE = HERE + "/celery-queue", HERE + "/celery-done"
for folder in QUEUE, DONE:
    os.makedirs(folder, exist_ok=True)

app = Celery("celery_app", broker="filesystem://")
app.conf.update(broker_transport_options={"data_folder_in": QUEUE, "data_folder_out": QUEUE,
                                          "control_folder": HERE + "/celery-control"},
                worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task
def celery_task(n):
    open("%s/%d %d %d" % (DONE, n, os.getpid(), time.monotonic_ns()), "w").close()
    return n


def fill():
    for i in range(6):
        celery_task.delay(i)
