# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The interpreters that the tests trace: pyenv's, the system's, and those in Debian roots made by
scripts/interpreters.sh. A name is SOURCE-VERSION, such as pyenv-3.12.1 or sid-3.15.2."""
import functools
import glob
import os
import pwd
import subprocess

from .runner import Skip

CACHE = os.environ.get("PYTRACE_CACHE", "/var/cache/pytrace-bpf")
# One of each minor version, and each way of building: what a test takes that need not run on all.
WANTED_MINORS = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]


class Interpreter:
    def __init__(self, name, path, version, root=None):
        self.name, self.path, self.version, self.root = name, path, version, root
        self.minor = tuple(int(x) for x in version.split(".")[:2])

    @property
    def file(self):
        """The executable, as a path of this mount namespace."""
        return os.path.realpath((self.root or "") + self.path)

    def command(self, *args):
        if self.root:
            return ["chroot", self.root, self.path, *args]
        return [self.path, *args]

    def __repr__(self):
        return self.name


def _version(command):
    return subprocess.run(command + ["-c", "import platform; print(platform.python_version())"],
                          stdout=subprocess.PIPE, check=True, timeout=60,
                          universal_newlines=True).stdout.strip()


def _homes():
    users = [os.environ.get("SUDO_USER"), None]
    for user in users:
        try:
            yield pwd.getpwnam(user).pw_dir if user else os.path.expanduser("~")
        except KeyError:
            pass


@functools.lru_cache(maxsize=None)
def every():
    found = []
    roots = [os.environ.get("PYENV_ROOT")] + [os.path.join(h, ".pyenv") for h in _homes()]
    for pyenv in dict.fromkeys(r for r in roots if r):
        for path in glob.glob(os.path.join(pyenv, "versions/3.*/bin/python3")):
            name = path.split(os.sep)[-3]
            try:
                if int(name.split(".")[1]) >= 8:
                    found.append(Interpreter("pyenv-" + name, path, _version([path])))
            except (ValueError, IndexError, subprocess.SubprocessError):
                continue
    system = os.path.realpath("/usr/bin/python3")
    found.append(Interpreter("system-" + _version([system]), system, _version([system])))
    for root in sorted(glob.glob(CACHE + "/roots/*/.stamp")):
        root = os.path.dirname(root)
        for path in sorted(glob.glob(root + "/usr/bin/python3.*")):
            base = os.path.basename(path)
            if os.path.islink(path) or not base[len("python3."):].rstrip("d").isdigit():
                continue
            inside = path[len(root):]
            version = _version(["chroot", root, inside])
            name = "%s-%s%s" % (os.path.basename(root), version, "d" if base[-1] == "d" else "")
            found.append(Interpreter(name, inside, version, root))
    return sorted(found, key=lambda i: (i.minor, i.name))


def one(minor=None):
    """An interpreter of this minor version, such as "3.11", outside of a Debian root if there is one;
    without a version any: 3.12 if it can be had. Skips the test where there is none."""
    minors = [minor] if minor else ["3.12", "3.13", "3.11", "3.10"]
    for m in minors:
        wanted = tuple(int(x) for x in m.split("."))
        fit = [i for i in every() if i.minor == wanted and not i.name.endswith("d")]
        # Prefer one that this harness does not run on itself, so that a test has the file for itself.
        fit.sort(key=lambda i: (bool(i.root), i.name.startswith("system")))
        if fit:
            return fit[0]
    raise Skip("no Python %s on this machine" % (minor or "3.10 - 3.13"))


def system():
    """The machine's own /usr/bin/python3, which every user may read."""
    return next(i for i in every() if i.name.startswith("system-"))


def missing_minors():
    return [m for m in WANTED_MINORS
            if tuple(int(x) for x in m.split(".")) not in {i.minor for i in every()}]
