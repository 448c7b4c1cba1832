"""Collect the provenance of a trial: versions, machine, kernel, control groups, Slurm's configuration."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runmem.errors import ClusterError
from runmem.memory.limits import memory_limit, node_memory_bytes
from runmem.reading import JsonObject
from runmem.slurm.client import configuration

__all__ = ["provenance"]

_PACKAGES = ("runmem", "memory-profiler", "psutil", "numpy")
_TOOLS = {"time": ["time", "--version"], "top": ["top", "-V"], "sacct": ["sacct", "--version"]}
_SLURM = re.compile(
    r"(SLURM_VERSION|ClusterName|AccountingStorage\w*|JobAcctGather\w*|Proctrack\w*|TaskPlugin\w*|SelectType\w*|"
    r"DefMemPer\w*|MaxMemPer\w*|MemLimitEnforce\w*)"
)
_VERSION_TIMEOUT_S = 10.0


def provenance() -> JsonObject:
    """Return the provenance as a JSON object, with null for unknown values."""
    limit = memory_limit()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "tools": {name: _first_line(command) for name, command in _TOOLS.items()},
        "host": platform.node(),
        "kernel": platform.release(),
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "cgroup_version": _cgroup_version(),
        "cpu": _cpu(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": node_memory_bytes(),
        "memory_limit_bytes": limit.limit_bytes,
        "memory_limit_source": limit.source,
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "transparent_hugepages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "overcommit_memory": _read("/proc/sys/vm/overcommit_memory"),
        "python": sys.executable,
        "folder": os.getcwd(),
        "slurm": _slurm(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first_line(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else None


def _cgroup_version() -> str | None:
    """Return the version of the control groups that have the memory controller: ``1``, ``2``, or None."""
    controllers = _read("/sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "memory" in controllers.split():
        return "2"
    groups = [line.split(":") for line in (_read("/proc/self/cgroup") or "").splitlines() if ":" in line]
    return "1" if any("memory" in fields[1].split(",") for fields in groups) else None


def _cpu() -> str | None:
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return match.group(1) if match else platform.processor() or None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _slurm() -> dict[str, str] | None:
    """Return the part of Slurm's configuration that affects its memory measurements; None without Slurm."""
    try:
        settings = configuration()
    except ClusterError:
        return None
    return {name: value for name, value in settings.items() if _SLURM.fullmatch(name)} or None
