# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Names and files in every width that CPython stores (Latin-1, UCS2, UCS4), quotes, control
characters, a lone surrogate, names longer than any buffer."""


def näme():
    return 1


def 名前():
    return 2


def 𝓊𝓃𝒾():
    return 3


FILES = ["/tmp/with space.py", "/tmp/quote\"back\\slash.py", "/tmp/new\nline\t\x01.py", "/tmp/é.py",
         "/tmp/名.py", "/tmp/\U0001f600.py", "/tmp/(12): x.py", "", "/tmp/\udcff.py",
         "/tmp/" + "long" * 400 + ".py", "/tmp/" + "長" * 300 + ".py"]


def workload():
    näme()
    名前()
    𝓊𝓃𝒾()
    for file in FILES:
        exec(compile("def f():\n    return 1\nf()\n", file, "exec"), {})
