"""Folders for the files of Dask during a run; those of killed processes are removed later.

    python -m runmem.store.scratch PID

makes one that belongs to another process, such as the shell of a job, and prints its path.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from runmem.node.members import start_ticks
from runmem.store.node_name import machine_id

__all__ = ["make_scratch", "remove_abandoned_scratch"]

_PREFIX = "runmem-dask-"
_FOLDER_NAME = re.compile(_PREFIX + r"([0-9a-f]{12})-(\d+)-(\d+)-\w+")


def make_scratch(owner: int | None = None) -> Path:
    """Make a folder (0700) with its owner in the name; Dask's default name could be taken by any user.

    Raises OSError if it cannot be made.

    Parameters
    ----------
    owner : int, optional
        Id of the process that removes it; default this one. After its end other processes of this user remove it.
    """
    pid = owner or os.getpid()
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_machine()}-{pid}-{start_ticks(pid) or 0}-"))


def remove_abandoned_scratch() -> None:
    """Remove the folders that ended processes of this user have left on this machine since its boot.

    A folder is kept if it belongs to another user, is a link, has another kind of name, was made by another machine (on
    a shared file system), or if its process is alive: the same id and start time.
    """
    ours = _machine()
    try:
        folders = list(os.scandir(tempfile.gettempdir()))
    except OSError:
        return
    for folder in folders:
        match = _FOLDER_NAME.fullmatch(folder.name)
        if match is None or match[1] != ours or not Path("/proc/self/stat").exists():
            continue
        if match[3] == "0" or start_ticks(int(match[2])) == int(match[3]):
            continue
        try:
            found = folder.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            shutil.rmtree(folder.path, ignore_errors=True)


def _machine() -> str:
    """Return a short hash of this machine's boot and process namespace."""
    return hashlib.sha256(machine_id().encode()).hexdigest()[:12]


if __name__ == "__main__":
    remove_abandoned_scratch()
    print(make_scratch(int(sys.argv[1])))
