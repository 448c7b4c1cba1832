"""Kills by the kernel's out-of-memory killer: whether there were any, and which limit was reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runmem.deaths import Cause
from runmem.memory.limits import CgroupFolder, cgroup_limits, counter, oom_kill_count, own_cgroup_folders, read_small
from runmem.units import format_bytes

__all__ = ["KernelKill", "KernelKills"]

_SLURM_JOB = re.compile(r"/slurm.*/job_(\d+)")


@dataclass(frozen=True, slots=True)
class KernelKill:
    """A kill by the kernel for lack of memory.

    Attributes
    ----------
    cause : Cause
    limit_bytes : int or None
        The limit of the control group that was full; None if the node was.
    limit_owner : str or None
        That control group.
    """

    cause: Cause
    limit_bytes: int | None = None
    limit_owner: str | None = None

    @property
    def place(self) -> str:
        """What was full, for a sentence."""
        if self.limit_owner is None:
            return "the node had no free memory left"
        return f"{self.limit_owner} was at its limit of {format_bytes(self.limit_bytes)}"


class KernelKills:
    """Compares the kernel's counters with those at the last look.

    Parameters
    ----------
    folders : list of CgroupFolder, optional
        The folders of the memory controller that apply, the process's own first; default those of this process.
    vmstat : Path
        Counters of the node.

    Notes
    -----
    Assumption: the process that died was in the control group of this one, as a worker and its nanny are.

    Limitation: the counters are those of the group, not of a process. If two processes die of signal 9 at the same time
    and the kernel killed one of them, the first that is asked about counts as its victim.
    """

    def __init__(self, folders: list[CgroupFolder] | None = None, vmstat: Path = Path("/proc/vmstat")) -> None:
        self._folders = own_cgroup_folders() if folders is None else folders
        self._vmstat = vmstat
        self._group = oom_kill_count(self._folders)
        self._node = counter(read_small(vmstat), "oom_kill")
        self._full = {folder: _times_full(folder) for folder in self._folders}

    @property
    def are_counted(self) -> bool:
        """Whether the kernel counts its kills."""
        return self._group is not None or self._node is not None

    def last(self) -> KernelKill | None:
        """Return the kill since the last look; None if there was none, or the kernel does not count them."""
        group, node = oom_kill_count(self._folders), counter(read_small(self._vmstat), "oom_kill")
        full = {folder: _times_full(folder) for folder in self._folders}
        group_before, node_before, full_before = self._group, self._node, self._full
        self._group, self._node, self._full = group, node, full
        if group is not None and group_before is not None:
            if group <= group_before:
                return None
        elif node is None or node_before is None or node <= node_before:
            return None
        for folder in self._folders:  # a group that is inside a full one is not full itself
            if (full[folder] or 0) > (full_before[folder] or 0) and (limits := cgroup_limits([folder])):
                return _kill_in(folder, limits[0].limit_bytes)
        return KernelKill(Cause.NODE_MEMORY)


def _kill_in(folder: CgroupFolder, limit_bytes: int) -> KernelKill:
    if job := _SLURM_JOB.search(str(folder.path)):
        return KernelKill(Cause.SLURM_LIMIT, limit_bytes, f"Slurm's job {job[1]} (--mem, --mem-per-cpu)")
    return KernelKill(Cause.CGROUP_LIMIT, limit_bytes, f"the control group {folder.path} (cgroup v{folder.version})")


def _times_full(folder: CgroupFolder) -> int | None:
    """Return how often an allocation failed because this folder, and not one above it, was at its limit."""
    if folder.version == 1:
        text = read_small(folder.path / "memory.failcnt").strip()
        return int(text) if text.isdecimal() else None
    local = counter(read_small(folder.path / "memory.events.local"), "oom")
    return local if local is not None else counter(read_small(folder.kill_file), "oom")
