"""The memory limit of the processes on this node: the lowest limit of the kernel, Slurm and the machine.

Dask reads the root of the cgroup tree only, and so gives workers memory that they do not have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runmem.units import GIB, MIB

__all__ = [
    "CgroupFolder",
    "MemoryLimit",
    "cgroup_folders",
    "cgroup_limits",
    "counter",
    "memory_limit",
    "node_memory_bytes",
    "oom_kill_count",
    "own_cgroup_folders",
    "read_small",
    "reserve_bytes",
    "share",
    "slurm_limits",
]

_UNLIMITED = 2**62  # cgroup v1 writes the largest number of whole pages when there is no limit


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A memory limit and its source.

    Attributes
    ----------
    limit_bytes : int
        Memory that its processes may use together.
    source : str
        ``cgroup v1 <folder>``, ``cgroup v2 <folder>``, ``SLURM_MEM_PER_NODE``,
        ``SLURM_MEM_PER_CPU x SLURM_CPUS_ON_NODE`` or ``node memory``.
    """

    limit_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class CgroupFolder:
    """A folder of the memory controller, version 1 or 2, that applies to this process."""

    version: int
    path: Path

    @property
    def limit_file(self) -> Path:
        """The file with the limit."""
        return self.path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")

    @property
    def kill_file(self) -> Path:
        """The file that counts the kernel's kills."""
        return self.path / ("memory.oom_control" if self.version == 1 else "memory.events")


def memory_limit() -> MemoryLimit:
    """Return the lowest limit on the memory of this process, with its source.

    Limitations: a limit on the address space (``ulimit -v``) and ``memory.high``, which slows a process down but does
    not kill it, are ignored, and so is the memory that other processes in the same cgroup or on the node use.
    """
    limits = [
        *cgroup_limits(own_cgroup_folders()),
        *slurm_limits(os.environ),
        MemoryLimit(node_memory_bytes(), "node memory"),
    ]
    return min(limits, key=lambda limit: limit.limit_bytes)


def node_memory_bytes() -> int:
    """Return the physical memory of this node in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def share(limit: MemoryLimit, workers: int) -> int:
    """Return the share of `limit`, in bytes, of each of `workers` processes.

    Raises ValueError if `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"memory cannot be shared among {workers} workers: there must be at least 1")
    return limit.limit_bytes // workers


def reserve_bytes(limit_bytes: int) -> int:
    """Return what of a node's limit is left to other processes than workers: a tenth, at most 1 GiB."""
    return min(GIB, limit_bytes // 10)


def oom_kill_count(folders: list[CgroupFolder] | None = None) -> int | None:
    """Return the number of out-of-memory kills in this process's cgroup, or in the first of `folders`.

    Compared before and after the death of a worker, it shows whether the kernel killed it. None without a memory
    controller, or on a kernel that does not count (before 4.13).

    Limitation: it counts the group, not a process.
    """
    seen = set()
    for folder in own_cgroup_folders() if folders is None else folders:
        if folder.version not in seen:  # the process's own folder comes first, then its parents
            seen.add(folder.version)
            if (count := counter(read_small(folder.kill_file), "oom_kill")) is not None:
                return count
    return None


def counter(text: str, name: str) -> int | None:
    """Return the value in the line ``<name> <value>`` of a file of the kernel; None if there is none."""
    match = re.search(rf"^{name} (\d+)$", text, re.MULTILINE)
    return int(match.group(1)) if match else None


def own_cgroup_folders() -> list[CgroupFolder]:
    """Return the folders of the memory controller that apply to this process, its own first, then the parents."""
    return cgroup_folders(read_small(Path("/proc/self/cgroup")), read_small(Path("/proc/self/mountinfo")))


def cgroup_folders(cgroup: str, mountinfo: str) -> list[CgroupFolder]:
    """Return the folders of the memory controller that apply to a process, its own first, then the parents.

    Parameters
    ----------
    cgroup, mountinfo : str
        Content of the process's ``/proc/<pid>/cgroup`` and ``/proc/<pid>/mountinfo``; see cgroups(7) and proc(5).
    """
    groups = dict(_groups(cgroup))
    folders: list[CgroupFolder] = []
    for version, root, mount_point in _mounts(mountinfo):
        if version in groups:
            found = _folders_of_mount(version, groups[version], root, mount_point)
            folders += [folder for folder in found if folder not in folders]
    return folders


def _groups(cgroup: str) -> Iterator[tuple[int, str]]:
    """Yield (version, group) of each hierarchy that can have a memory controller."""
    for line in cgroup.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and "memory" in fields[1].split(","):
            yield 1, fields[2]
        elif len(fields) == 3 and fields[:2] == ["0", ""]:
            yield 2, fields[2]


def _mounts(mountinfo: str) -> Iterator[tuple[int, str, str]]:
    """Yield (version, the group that is mounted, mount point)."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        places, kind = before.split(), after.split()
        if len(places) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            yield 2, _unescaped(places[3]), _unescaped(places[4])
        elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
            yield 1, _unescaped(places[3]), _unescaped(places[4])


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _folders_of_mount(version: int, group: str, root: str, mount_point: str) -> list[CgroupFolder]:
    """Return the folders from that of `group` up to the mount point.

    For a group outside the mount the mount point is used: a container sees its own group as the root of the mount, but
    its full name in ``/proc/self/cgroup``.
    """
    inside = group[len(root.rstrip("/")) :] if (group + "/").startswith(root.rstrip("/") + "/") else "/"
    names = [name for name in inside.split("/") if name]
    if ".." in names:
        names = []
    return [CgroupFolder(version, Path(mount_point, *names[:depth])) for depth in range(len(names), -1, -1)]


def cgroup_limits(folders: list[CgroupFolder]) -> list[MemoryLimit]:
    """Return the limits in `folders`; a missing or unlimited folder has none."""
    limits = []
    for folder in folders:
        text = read_small(folder.limit_file).strip()
        if text.isdecimal() and 0 < int(text) < _UNLIMITED:  # version 2 says "max"
            limits.append(MemoryLimit(int(text), f"cgroup v{folder.version} {folder.path}"))
    return limits


def slurm_limits(environment: Mapping[str, str]) -> list[MemoryLimit]:
    """Return Slurm's limits of this job on this node; its megabytes are MiB, and 0 means no limit."""
    limits = []
    if per_node := _whole(environment.get("SLURM_MEM_PER_NODE")):
        limits.append(MemoryLimit(per_node * MIB, "SLURM_MEM_PER_NODE"))
    per_cpu = _whole(environment.get("SLURM_MEM_PER_CPU"))
    if per_cpu and (cpus := _whole(environment.get("SLURM_CPUS_ON_NODE"))):
        limits.append(MemoryLimit(per_cpu * cpus * MIB, "SLURM_MEM_PER_CPU x SLURM_CPUS_ON_NODE"))
    return limits


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.strip().isdecimal() else 0


def read_small(path: Path) -> str:
    """Return the content of a small file, empty if unreadable: then there is no such limit."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
