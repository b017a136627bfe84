# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Has loaded greenlet, and does not use it."""
import greenlet


def workload():
    return {"version": greenlet.__version__}
