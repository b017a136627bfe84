# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Makes and calls N functions, each another one: grows.py N."""
import sys

for i in range(int(sys.argv[1])):
    exec("def f%d(): pass\nf%d()" % (i, i))
