"""The spool that a killed master has left on this host, with lines that it had not copied."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from runmem.reading import JsonObject
from runmem.store.append import read_lines
from runmem.store.layout import safe_name
from runmem.store.node_name import node_name

__all__ = ["LeftSpool"]

_RUN_ID = re.compile(r"\d{14}-\d+-[0-9a-f]{8}")
_PORTION_BYTES = 16 * 1024**2


class LeftSpool:
    """The spool of a run on this host, located by its ``run.json``; it may not exist.

    Since a ``run.json`` may come from anywhere, only a folder of this user with the name of this run's spool is read.
    """

    def __init__(self, provenance: JsonObject) -> None:
        self.node = node_name()
        self.root: Path | None = None
        run_id, place = provenance.get("run_id"), provenance.get("spool")
        if not isinstance(run_id, str) or not isinstance(place, str) or not _RUN_ID.fullmatch(run_id):
            return
        root = Path(place)
        try:
            found = root.lstat()
        except (OSError, ValueError):
            return
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if is_ours and root.name == f"{run_id}.{safe_name(self.node)}":
            self.root = root

    def lines(self, file: str, offset: int) -> bytes:
        """Return the whole lines of a spool file from `offset` on; empty if it does not exist."""
        if self.root is None:
            return b""
        found = b""
        try:
            while portion := read_lines(str(self.root / file), offset + len(found), _PORTION_BYTES):
                found += portion
        except OSError:
            pass
        return found

    def files(self) -> list[str]:
        """Return the names of its files of task lines."""
        return self._named(r"tasks-\d+\.jsonl")

    def traces(self) -> list[Path]:
        """Return its traces of workers, which may be longer than those of the run directory."""
        return [self.root / name for name in self._named(r"(?!mprofile_).*\.dat")] if self.root is not None else []

    def _named(self, pattern: str) -> list[str]:
        if self.root is None:
            return []
        try:
            return sorted(path.name for path in self.root.iterdir() if re.fullmatch(pattern, path.name))
        except OSError:
            return []
