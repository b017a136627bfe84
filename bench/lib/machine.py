# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""What the figures were measured on."""
import os
import platform
import re
import subprocess
import time


def _first_line(command):
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                             universal_newlines=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.splitlines()[0] if out else ""


def _field(path, key):
    with open(path) as file:
        for line in file:
            if re.match(key + r"\s*[:=]", line):
                return re.split(r"[:=]", line, maxsplit=1)[1].strip().strip('"')
    return ""


def describe(tool):
    here = os.path.dirname(os.path.abspath(__file__))
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "virtual": _first_line(["systemd-detect-virt", "--vm"]) or "unknown",
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "distribution": _field("/etc/os-release", "PRETTY_NAME"),
        "tool": _first_line([tool, "--version"]),
        "commit": _first_line(["git", "-C", here, "rev-parse", "--short", "HEAD"]),
        "bpftrace": _first_line(["bpftrace", "--version"]),
        "libbpf": _first_line(["pkg-config", "--modversion", "libbpf"]),
        "zlib": _first_line(["pkg-config", "--modversion", "zlib"]),
    }


class Moment:
    """When a section ran, how busy the machine was right before it, and how much of the CPUs' time
    the host took away meanwhile."""

    def __init__(self):
        self.at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.load = os.getloadavg()[0]
        self.ticks = self._ticks()

    @staticmethod
    def _ticks():
        with open("/proc/stat") as file:
            fields = [int(x) for x in file.readline().split()[1:9]]
        return sum(fields), fields[7]  # the eighth is "steal"

    def fields(self):
        total, stolen = (b - a for a, b in zip(self.ticks, self._ticks()))
        return {"at": self.at, "load_before": round(self.load, 2), "nice": os.nice(0),
                "stolen_percent": round(100 * stolen / max(1, total), 1)}
