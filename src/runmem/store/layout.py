"""Where things lie: the run directory on the master and the spool folder on a node. No other module builds a path."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runmem.errors import SettingError
from runmem.store.node_name import node_name

__all__ = ["RunDirectory", "Spool", "safe_name", "worker_series"]


_MOST_NAME_BYTES = 200  # of the 255 that a file name may have: others add a number and an ending


def safe_name(text: str) -> str:
    """Return `text` as a file name and as a name in a `.dat` line: no space, no slash, never empty, never too long.

    Of a long name the end gives way to a few characters that tell it from others that begin in the same way.
    """
    name = re.sub(r"[^\w.+-]", "_", text) or "_"
    if len(name.encode("utf-8", "surrogatepass")) <= _MOST_NAME_BYTES:
        return name
    begin = name.encode("utf-8", "surrogatepass")[: _MOST_NAME_BYTES - 13].decode("utf-8", "ignore")
    return f"{begin}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def worker_series(pid: int) -> str:
    """Return the name of the series of worker process `pid` in its node's trace."""
    return f"worker-{pid}"


class RunDirectory(NamedTuple):
    """The folder that holds all that is known of one run.

    ``run.json`` (provenance), ``tasks.jsonl`` (a line a record), ``traces/*.dat``, ``profiles/*.txt``, and
    ``replica/<node>/``, byte-for-byte copies of the spool files of each node.
    """

    root: Path

    @classmethod
    def create(cls, app: str, base: Path) -> RunDirectory:
        """Make and return ``<base>/<app>_<NN>``, NN being the first free number from 01.

        Raises
        ------
        SettingError
            If the folder cannot be made.
        """
        try:
            while (run := cls._numbered(app, base)) is None:
                pass
            try:
                for folder in (run.traces, run.profiles, run.replicas):
                    folder.mkdir()
            except BaseException:  # also a signal
                run.remove()
                raise
        except OSError as error:
            raise SettingError(
                f"the run directory cannot be made in {base}: {error.strerror or error}. "
                "Start runmem in a folder that you may write to, or name one with --run_folder."
            ) from error
        return run

    @classmethod
    def _numbered(cls, app: str, base: Path) -> RunDirectory | None:
        """Make the directory with the next number; None: another run has come or gone between the look and that."""
        base.mkdir(parents=True, exist_ok=True)
        name = re.compile(re.escape(app) + r"_(\d+)")
        try:
            taken = [int(found[1]) for path in base.iterdir() if (found := name.fullmatch(path.name))]
            run = cls(base / f"{app}_{max(taken, default=0) + 1:02d}")
            run.root.mkdir()
        except FileExistsError:
            return None
        except FileNotFoundError:
            if base.is_dir():  # it is no race
                raise
            return None
        return run

    def remove(self) -> None:
        """Remove it with all that is in it, and the folder of the runs if that is empty then."""
        shutil.rmtree(self.root, ignore_errors=True)
        with suppress(OSError):
            self.root.parent.rmdir()

    @property
    def run_json(self) -> Path:
        """Provenance: command, versions, settings, nodes, exit code."""
        return self.root / "run.json"

    @property
    def tasks_jsonl(self) -> Path:
        """One line a task record, in the order in which the tasks ended."""
        return self.root / "tasks.jsonl"

    @property
    def is_one(self) -> bool:
        """Whether the folder is that of a run, as far as what lies in it tells."""
        return self.run_json.is_file() or self.tasks_jsonl.is_file()

    @property
    def files(self) -> Path:
        """Folder of the versions of files that do not lie in place, while the run goes on."""
        return self.root / "files"

    @property
    def traces(self) -> Path:
        """Folder of the `.dat` traces."""
        return self.root / "traces"

    @property
    def profiles(self) -> Path:
        """Folder of the `@profile` reports, one text file a task name."""
        return self.root / "profiles"

    @property
    def replicas(self) -> Path:
        """Folder of the copies of the nodes' spool files."""
        return self.root / "replica"

    def replica(self, node: str, file: str) -> Path:
        """Return the copy of spool file `file` of `node`; a trace lies in `traces`, so that people find it."""
        return self.traces / file if file.endswith(".dat") else self.replicas / safe_name(node) / file


class Spool(NamedTuple):
    """The private folder of one run on one node (mode 0700): append-only files that outlive the processes."""

    root: Path

    @classmethod
    def of_run(cls, run_id: str) -> Spool:
        """Return the spool of run `run_id` on this node, below the folder for temporary files."""
        node = node_name()
        own = f"{run_id}.{safe_name(node)}"  # nodes may share a machine, or a file system for temporary files
        return cls(Path(tempfile.gettempdir()) / f"runmem-{os.getuid()}" / own)

    def make(self) -> None:
        """Make the folder, readable by nobody else.

        Raises
        ------
        SettingError
            If the folder cannot be made, or the parent belongs to another user.
        """
        parent = self.root.parent
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = parent.lstat()
            if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
                raise SettingError(f"{parent} belongs to somebody else; set TMPDIR to a folder of your own.")
            if found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX:  # a folder for all, as /tmp, stays that
                parent.chmod(0o700)
            self.root.mkdir(mode=0o700, exist_ok=True)
            made = self.root.lstat()  # in a folder for all it may be somebody else's, or a link of theirs
            if made.st_uid != os.getuid() or not stat.S_ISDIR(made.st_mode):
                raise SettingError(f"{self.root} belongs to somebody else; set TMPDIR to a folder of your own.")
            if made.st_mode & 0o077:
                self.root.chmod(0o700)
            self.members.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SettingError(
                f"the spool folder {self.root} cannot be made: {error.strerror or error}. Set TMPDIR to a folder with "
                "room."
            ) from error

    def remove_old_ones(self, days: float = 1.0) -> None:
        """Remove the spools of this user's runs whose master died, when nothing was written to them for some days."""
        for folder in self.root.parent.iterdir() if self.root.parent.is_dir() else ():
            try:
                newest = max((path.lstat().st_mtime for path in [folder, *folder.iterdir()]), default=time.time())
            except OSError:
                continue
            if time.time() - newest > days * 86400 and folder != self.root:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def members(self) -> Path:
        """Folder of the processes to sample: one file a process, named by its process id (see `runmem.node`)."""
        return self.root / "members"

    @property
    def sampler_lock(self) -> Path:
        """File whose lock is held by the node's one sampler."""
        return self.root / "sampler.lock"

    @property
    def taken(self) -> Path:
        """File with what the master has of this spool, for the process that leaves last."""
        return self.root / "master-had"

    @property
    def stop(self) -> Path:
        """File whose existence tells the sampler to end."""
        return self.root / "stop"

    def trace(self, name: str) -> Path:
        """Return the trace file called `name`."""
        return self.file(name)

    def file(self, name: str) -> Path:
        """Return any file of the spool by its name."""
        return self.root / name

    def tasks(self, pid: int) -> Path:
        """Return the file of task lines of worker process `pid`."""
        return self.root / f"tasks-{pid}.jsonl"

    def deaths(self, pid: int) -> Path:
        """Return the file in which process `pid` tells why others died."""
        return self.root / f"deaths-{pid}.jsonl"

    def profiles(self, pid: int) -> Path:
        """Return the file of `@profile` reports of worker process `pid`."""
        return self.root / f"profiles-{pid}.jsonl"

    def limits(self, pid: int) -> Path:
        """Return the file in which worker process `pid` says which of its calls have a time limit."""
        return self.root / f"limits-{pid}.bin"

    def stacks(self, pid: int) -> Path:
        """Return the file to which worker process `pid` writes the stacks of its threads when it is asked to."""
        return self.root / f"stacks-{pid}.txt"

    def logs(self, pid: int) -> Path:
        """Return the file of what tasks have logged in worker process `pid`."""
        return self.root / f"logs-{pid}.jsonl"
