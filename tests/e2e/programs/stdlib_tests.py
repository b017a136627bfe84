# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Modules of CPython's own tests, each test below a function of its name: T:ID. Returns how each test
ended, by ID; those that are skipped with their class are not run at all."""
import os
import sys
import tempfile
import unittest
import warnings


class Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.ended = {}

    def startTest(self, test):
        super().startTest(test)
        self.ended[test.id()] = self.ended.get(test.id(), "") + "+"  # twice would be two of them

    def addError(self, test, error):
        super().addError(test, error)
        self.ended[test.id()] = "error"

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.ended[test.id()] = "failure"


def rename(test):
    run = test.run

    def around(*args, **kwargs):
        return run(*args, **kwargs)
    code = around.__code__
    name = "T:" + test.id()
    more = {"co_qualname": name} if sys.version_info >= (3, 11) else {}
    around.__code__ = code.replace(co_name=name, **more)
    test.run = around


def rename_all(suite):
    for test in suite:
        if isinstance(test, unittest.TestCase):
            rename(test)
        else:
            rename_all(test)


def workload(*modules):
    from test import support
    support.use_resources = []  # nothing that takes long or needs the network
    warnings.simplefilter("ignore")
    here = os.getcwd()
    result = Result()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
        rename_all(suite)
        suite.run(result)
        os.chdir(here)
    return result.ended
