"""`cgroup`: the peak that the kernel keeps for a control group, one made for the execution."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import ClassVar

from runmem.memory.limits import CgroupFolder, cgroup_folders
from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.outcome import Outcome, Site

__all__ = ["Cgroup"]

_REMOVE_TRIES, _REMOVE_PAUSE_S = 20, 0.01


class Cgroup(Method):
    """``memory.peak`` (v2) or ``memory.max_usage_in_bytes`` (v1): what the limit of a job is compared with."""

    name: ClassVar[str] = "cgroup"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "cgroup",
            "tree",
            "peak",
            "peak charge of a control group made for the command",
            low="files and libraries that others brought into memory before are not charged",
            high="counts page cache and kernel memory too",
        ),
    )
    assumptions: ClassVar[str] = "A group may be made beside or below that of this process."
    limitations: ClassVar[str] = (
        "Page cache that the command brings in counts, though the kernel would give it back; pages of files and "
        "libraries that others brought in before do not. The charge is taken in batches of some hundred KiB. "
        "Not under srun and sbatch: "
        "a group of its own would take the command out of Slurm's, with its limits and its accounting."
    )

    def __init__(self) -> None:
        self._group: CgroupFolder | None = None

    def available(self) -> str | None:
        """Return why no group can be made."""
        try:
            self._make(f"runmem-trial-{os.getpid()}-look")
        except OSError as error:
            return str(error)
        self._remove()
        return None

    def prepare(self, site: Site) -> None:
        """Make the group."""
        self._make(f"runmem-trial-{os.getpid()}-{site.folder.name}")

    def group(self) -> Path | None:
        """Return the file of the group's processes."""
        return self._group.path / "cgroup.procs" if self._group is not None else None

    def collect(self, outcome: Outcome) -> list[Reading]:
        """Read the peak and remove the group."""
        if self._group is None:
            return self.missing("no control group was made")
        try:
            return [Reading("cgroup", int((self._group.path / _peak_file(self._group.version)).read_text()))]
        finally:
            self._remove()

    def _make(self, name: str) -> None:
        """Make a group in the nearest folder that allows it. Raises OSError with the last reason."""
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
        """Remove the group; the kernel may take a moment to let go of it, and what outlives the command keeps it."""
        group, self._group = self._group, None
        for _ in range(_REMOVE_TRIES if group is not None else 0):
            with contextlib.suppress(OSError):
                group.path.rmdir()  # type: ignore[union-attr]
                return
            time.sleep(_REMOVE_PAUSE_S)


def _peak_file(version: int) -> str:
    return "memory.max_usage_in_bytes" if version == 1 else "memory.peak"
