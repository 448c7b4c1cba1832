"""`cgroup`: the peak that the kernel keeps for a control group made for the execution."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from runmem.memory.limits import CgroupFolder, cgroup_folders
from runmem.trials.methods.contract import Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome, Site

__all__ = ["Cgroup"]

_REMOVE_TRIES, _REMOVE_PAUSE_S = 20, 0.01


class Cgroup(Method):
    """``memory.peak`` (v2) or ``memory.max_usage_in_bytes`` (v1), which the limit of a job applies to."""

    name = "cgroup"
    columns = (
        MethodColumn(
            "cgroup",
            "tree",
            "peak",
            "peak charge of a control group made for the command",
            low="files and libraries that other processes read before are not charged",
            high="includes page cache and kernel memory",
        ),
    )
    assumptions = "A control group can be made beside or below that of this process."
    limitations = (
        "Page cache that the command fills is included, though the kernel would free it; pages of files and libraries "
        "that other processes read before are not. The kernel charges in batches of several hundred KiB. "
        "Not under srun and sbatch: in a group of its own the command would escape Slurm's limits and accounting."
    )

    def __init__(self) -> None:
        self._group: CgroupFolder | None = None

    def available(self) -> str | None:
        try:
            self._make(f"runmem-trial-{os.getpid()}-test")
        except OSError as error:
            return str(error)
        self._remove()
        return None

    def prepare(self, site: Site) -> None:
        self._make(f"runmem-trial-{os.getpid()}-{site.folder.name}")

    def group(self) -> Path | None:
        return self._group.path / "cgroup.procs" if self._group is not None else None

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        if self._group is None:
            return self.missing("no control group was made")
        try:
            return [Reading("cgroup", int((self._group.path / _peak_file(self._group.version)).read_text()))]
        finally:
            self._remove()

    def _make(self, name: str) -> None:
        """Make a control group in the nearest folder that allows it; raise OSError if none does."""
        text = [Path(f"/proc/self/{file}").read_text(errors="replace") for file in ("cgroup", "mountinfo")]
        reason = "this machine has no memory controller"
        for parent in cgroup_folders(*text):
            made = CgroupFolder(parent.version, parent.path / name)
            try:
                made.path.mkdir()
            except OSError as error:
                reason = f"no control group can be made in {parent.path}: {error.strerror}"
                continue
            self._group = made
            if (made.path / _peak_file(made.version)).exists() and os.access(made.path / "cgroup.procs", os.W_OK):
                return
            self._remove()
            reason = f"groups in {parent.path} have no {_peak_file(made.version)}"
        raise OSError(reason)

    def _remove(self) -> None:
        """Remove the control group; the kernel may need a moment, and processes that outlive the command prevent it."""
        group, self._group = self._group, None
        for _ in range(_REMOVE_TRIES if group is not None else 0):
            with contextlib.suppress(OSError):
                group.path.rmdir()  # type: ignore[union-attr]
                return
            time.sleep(_REMOVE_PAUSE_S)


def _peak_file(version: int) -> str:
    return "memory.max_usage_in_bytes" if version == 1 else "memory.peak"
