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
        "virtual": _first_line(["systemd-detect-virt"]) or "unknown",
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "distribution": _field("/etc/os-release", "PRETTY_NAME"),
        "tool": _first_line([tool, "--version"]),
        "commit": _first_line(["git", "-C", here, "rev-parse", "--short", "HEAD"]),
        "bpftrace": _first_line(["bpftrace", "--version"]),
        "libbpf": _first_line(["pkg-config", "--modversion", "libbpf"]),
        "zlib": _first_line(["pkg-config", "--modversion", "zlib"]),
    }


def moment():
    """When a section ran, and how busy the machine was with other things right before."""
    return {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "load_before": round(os.getloadavg()[0], 2)}
