# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""An interpreter file of the benchmark's own.

Probes belong to a file, and whoever else traces the interpreter on this machine would be measured
as well. So programs under test run a copy: of python3.N itself, or of libpython3.N.so, which is
then preloaded. Nothing that is loaded differs from the original.
"""
import os
import shutil
import tempfile

from lib import elfsyms, proc


def _interpreter_file(target):
    """The file with the interpreter's code that the process maps, as it sees it."""
    with open("/proc/%d/maps" % target.pid) as maps:
        paths = {line.split()[-1] for line in maps if " r-xp " in line and "/" in line}
    library = [p for p in paths if os.path.basename(p).startswith("libpython")]
    if library:
        return library[0]
    return os.readlink("/proc/%d/exe" % target.pid)


class Private:
    """Stands for an interpreter as those of tests/e2e/harness do; use it in a with statement.
    addresses: of the symbols that the copy gets, see elfsyms.py."""

    def __init__(self, interpreter, addresses=()):
        self.name, self.version, self.root = (interpreter.name, interpreter.version,
                                              interpreter.root)
        with proc.Target(interpreter, "fib.py") as target:
            source = _interpreter_file(target)
        root = interpreter.root or ""
        # the maps of a process in a chroot show paths of this mount namespace
        source = source[len(root):] if root and source.startswith(root) else source
        self.folder = tempfile.mkdtemp(prefix="pytrace-bench-", dir=root + "/var/tmp")
        self.file = os.path.join(self.folder, os.path.basename(source))
        inside = self.file[len(root):]
        library = os.path.basename(source).startswith("libpython")
        self.env = {"LD_PRELOAD": inside} if library else None
        self.path = interpreter.path if library else inside
        self.symbols = [elfsyms.symbol_name(i) for i in range(len(addresses))]
        try:
            elfsyms.copy_with_symbols(root + source, self.file, addresses)
            os.chmod(self.folder, 0o755)
            os.chmod(self.file, 0o755)
            self._check()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    def _check(self):
        with proc.Target(self, "fib.py") as target:
            with open("/proc/%d/maps" % target.pid) as maps:
                if self.file not in maps.read():
                    raise proc.BenchError("%s does not run its copy %s" % (self.name, self.file))

    def command(self, *args):
        if self.root:
            return ["chroot", self.root, self.path, *args]
        return [self.path, *args]

    def __enter__(self):
        return self

    def __exit__(self, *args):
        shutil.rmtree(self.folder)

    def __str__(self):
        return self.name
