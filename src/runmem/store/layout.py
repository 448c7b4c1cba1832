"""The paths in the run directory on the master and in the spool folder on a node. No other module builds them."""

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

__all__ = ["JOBS", "RunDirectory", "Spool", "safe_name", "worker_series"]


JOBS = "jobs.jsonl"
"""Name of the file of a spool in which workers note their batch jobs."""

_MOST_NAME_BYTES = 200  # of the 255 of a file name: a number and an ending may follow


def safe_name(text: str) -> str:
    """Return `text` as a name of a file or in a `.dat` line: without spaces and slashes, not empty and not too long.

    The end of a long name is replaced by a hash.
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
    """The folder with the files of one run.

    ``run.json`` (provenance), ``tasks.jsonl`` (one record on each line), ``traces/*.dat``, ``profiles/*.txt``, and
    ``replica/<node>/``, exact copies of the spool files of each node.
    """

    root: Path

    @classmethod
    def create(cls, app: str, base: Path) -> RunDirectory:
        """Make and return ``<base>/<app>_<NN>``, with the first free number from 01.

        Raises SettingError if the folder cannot be made.
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
                "Start runmem in a writable folder, or name one with --run_folder."
            ) from error
        return run

    @classmethod
    def _numbered(cls, app: str, base: Path) -> RunDirectory | None:
        """Make the directory with the next number; return None if another run interfered."""
        base.mkdir(parents=True, exist_ok=True)
        name = re.compile(re.escape(app) + r"_(\d+)")
        try:
            taken = [int(found[1]) for path in base.iterdir() if (found := name.fullmatch(path.name))]
            run = cls(base / f"{app}_{max(taken, default=0) + 1:02d}")
            run.root.mkdir()
        except FileExistsError:
            return None
        except FileNotFoundError:
            if base.is_dir():  # not a race
                raise
            return None
        return run

    def remove(self) -> None:
        """Remove the directory, and the folder of the runs if it is then empty."""
        shutil.rmtree(self.root, ignore_errors=True)
        with suppress(OSError):
            self.root.parent.rmdir()

    @property
    def run_json(self) -> Path:
        """Provenance: command, versions, settings, nodes, exit code."""
        return self.root / "run.json"

    @property
    def tasks_jsonl(self) -> Path:
        """Task records, one on each line, in the order in which the tasks ended."""
        return self.root / "tasks.jsonl"

    @property
    def is_one(self) -> bool:
        """Whether the folder has the files of a run."""
        return self.run_json.is_file() or self.tasks_jsonl.is_file()

    @property
    def files(self) -> Path:
        """Folder of the file versions that are not in place, during the run."""
        return self.root / "files"

    @property
    def traces(self) -> Path:
        """Folder of the `.dat` traces."""
        return self.root / "traces"

    @property
    def profiles(self) -> Path:
        """Folder of the `@profile` reports, one text file for each task name."""
        return self.root / "profiles"

    @property
    def flame_graphs(self) -> tuple[Path, ...]:
        """Pages with the recorded allocations of calls."""
        return tuple(sorted(self.profiles.glob("memray-*.html")))

    @property
    def task_graph(self) -> Path:
        """Graph of the calls, for graphviz; its drawing has the suffix ``.svg``."""
        return self.root / "complete_graph.dot"

    @property
    def shown_graph(self) -> Path | None:
        """The drawing of the graph if there is one, else the graph; None if there is neither."""
        files = (self.task_graph.with_suffix(".svg"), self.task_graph)
        return next((file for file in files if file.is_file()), None)

    @property
    def replicas(self) -> Path:
        """Folder of the copies of the nodes' spool files."""
        return self.root / "replica"

    def replica(self, node: str, file: str) -> Path:
        """Return the copy of spool file `file` of `node`; that of a trace is in `traces`, where users find it."""
        return self.traces / file if file.endswith(".dat") else self.replicas / safe_name(node) / file


class Spool(NamedTuple):
    """The private folder of one run on one node (mode 0700): append-only files that outlive the processes."""

    root: Path

    @classmethod
    def of_run(cls, run_id: str) -> Spool:
        """Return the spool of run `run_id` on this node, below the folder for temporary files."""
        node = node_name()
        own = f"{run_id}.{safe_name(node)}"  # nodes may share a machine, or the folder for temporary files
        return cls(Path(tempfile.gettempdir()) / f"runmem-{os.getuid()}" / own)

    def make(self) -> None:
        """Make the folder, readable only by this user.

        Raises SettingError if the folder cannot be made, or the parent belongs to another user.
        """
        try:
            self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(self.root.parent)
            self.root.mkdir(mode=0o700, exist_ok=True)
            _make_private(self.root)
            self.members.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SettingError(
                f"the spool folder {self.root} cannot be made: {error.strerror or error}. Set TMPDIR to a folder with "
                "room."
            ) from error

    def remove_old_ones(self, days: float = 1.0) -> None:
        """Remove this user's spools of runs whose master died, if they have not changed for some days."""
        for folder in self.root.parent.iterdir() if self.root.parent.is_dir() else ():
            try:
                newest = max((path.lstat().st_mtime for path in [folder, *folder.iterdir()]), default=time.time())
            except OSError:
                continue
            if time.time() - newest > days * 86400 and folder != self.root:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def members(self) -> Path:
        """Folder of the processes to sample: one file for each, named by its process id (see `runmem.node`)."""
        return self.root / "members"

    @property
    def taken(self) -> Path:
        """File that records how much of this spool the master has copied, for the last process to leave."""
        return self.root / "master-had"

    @property
    def stop(self) -> Path:
        """File whose existence ends the sampler."""
        return self.root / "stop"

    def file(self, name: str) -> Path:
        """Return a file of the spool by its name."""
        return self.root / name

    def tasks(self, pid: int) -> Path:
        """Return the file of task lines of worker process `pid`."""
        return self.root / f"tasks-{pid}.jsonl"

    def deaths(self, pid: int) -> Path:
        """Return the file in which process `pid` records why workers died."""
        return self.root / f"deaths-{pid}.jsonl"

    @property
    def jobs(self) -> Path:
        """File in which the workers of the node note in which batch job each of them runs."""
        return self.root / JOBS

    def profiles(self, pid: int) -> Path:
        """Return the file of `@profile` reports of worker process `pid`."""
        return self.root / f"profiles-{pid}.jsonl"

    def captures(self, pid: int) -> Path:
        """Return the file in which worker process `pid` sends files with recorded allocations."""
        return self.root / f"captures-{pid}.jsonl"

    def limits(self, pid: int) -> Path:
        """Return the file with the time limits of calls in worker process `pid`."""
        return self.root / f"limits-{pid}.bin"

    def sampled(self, pid: int) -> Path:
        """Return the file in which the sampler reports to worker process `pid` (see `runmem.node.sampled_peaks`)."""
        return self.root / f"sampled-{pid}.bin"

    def running(self, pid: int) -> Path:
        """Return the file in which worker process `pid` notes the calls that it runs."""
        return self.root / f"running-{pid}.bin"

    def stacks(self, pid: int) -> Path:
        """Return the file to which worker process `pid` writes its threads' stacks on request."""
        return self.root / f"stacks-{pid}.txt"

    def logs(self, pid: int) -> Path:
        """Return the file of log records of tasks in worker process `pid`."""
        return self.root / f"logs-{pid}.jsonl"


def _make_private(folder: Path) -> None:
    """Restrict a folder to this user, except a shared one such as ``/tmp``; raise SettingError if it is another's."""
    found = folder.lstat()  # in a shared folder it may be another user's, or a link
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise SettingError(f"{folder} belongs to another user; set TMPDIR to a folder of your own.")
    if found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX:
        folder.chmod(0o700)
