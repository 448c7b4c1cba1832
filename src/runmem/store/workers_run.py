"""The run directory of workers that record their tasks themselves, where no program collects them (`runmem.preload`).

The workers of a cluster share one directory; each node's lines and trace are in its ``replica/<node>/`` from the
beginning. ``run.json`` has the processes that are at work, by node, which distinguishes a task that still runs
from one without an end.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from runmem.reading import JsonObject
from runmem.store.batch_job import BatchJob
from runmem.store.layout import RunDirectory, Spool, safe_name
from runmem.store.node_name import node_name
from runmem.store.output import write_file
from runmem.store.provenance import read_provenance

__all__ = ["WORKERS_RUN", "WorkersRun", "died", "has_workers_at_work", "is_at_work"]

WORKERS_RUN = "dask workers"
"""What ``run.json`` says of the cluster of such a run."""

_LOCK = "lock"


class WorkersRun(NamedTuple):
    """The run directory of the workers of one scheduler, on this node."""

    directory: RunDirectory

    @classmethod
    def of_scheduler(cls, base: Path, scheduler_id: str) -> WorkersRun:
        """Return the run directory below `base` for a scheduler, made if it is missing.

        Raises OSError if it cannot be made.
        """
        short = re.sub(r"[^0-9a-zA-Z]", "", scheduler_id.removeprefix("Scheduler-"))[:8]
        run = cls(RunDirectory(base / f"dask_{short}"))
        for folder in (run.directory.traces, run.directory.profiles, run.directory.replicas):
            folder.mkdir(parents=True, exist_ok=True)
        return run

    @property
    def spool(self) -> Spool:
        """Spool of this node, in the run directory itself."""
        return Spool(self.directory.replicas / safe_name(node_name()))

    def join(self, pid: int, values: JsonObject, node: JsonObject, now_s: float) -> None:
        """Note that a process of this node is at work.

        Parameters
        ----------
        values : dict
            For a new ``run.json``.
        node : dict
            Memory and limits of this node.
        now_s : float
            Seconds since the epoch.
        """
        with self._changed({**values, "started_s": now_s}) as found:
            nodes = found.get("nodes") or {}
            if jobs := _jobs_with_own(nodes.get(node_name()) or {}):
                node = {**node, "jobs": jobs}
            found["nodes"] = {**nodes, node_name(): node}
            self._note_dead(found)
            found["at_work"] = {**_at_work(found), node_name(): [*self._alive(found), pid]}
            found["ended_s"] = found["exit_code"] = None
        trace = self.directory.traces / f"{safe_name(node_name())}.dat"
        with suppress(FileExistsError):
            trace.symlink_to(os.path.relpath(self.spool.root / trace.name, trace.parent))

    def leave(self, pid: int, now_s: float) -> None:
        """Note that a process of this node has ended its work; with the last one of all nodes the run ends."""
        with self._changed({}) as found:
            self._note_dead(found)
            here = self._alive(found)
            if pid in here:
                here.remove(pid)
            found["at_work"] = {**_at_work(found), node_name(): here}
            if not any(_at_work(found).values()):
                found["ended_s"], found["exit_code"] = now_s, 0

    def lose(self, losses: Mapping[str, str]) -> None:
        """Note what was not measured, or not recorded: place to reason, in place of an earlier reason.

        Raises OSError if that cannot be written.
        """
        with self._changed({}) as found:
            places = tuple(f"{place}: " for place in losses)
            others = [line for line in found.get("lost") or [] if not line.startswith(places)]
            found["lost"] = others + [f"{place}: {reason}" for place, reason in losses.items()]

    def _note_dead(self, found: JsonObject) -> None:
        """Note the processes of this node that have died: they are gone and have not left."""
        at_work = _at_work(found).get(node_name(), [])
        if dead := [pid for pid in at_work if not _is_alive(pid)]:
            before = _processes(found, "died")
            found["died"] = {**before, node_name(): [*before.get(node_name(), []), *dead]}

    def _alive(self, found: JsonObject) -> list[int]:
        return [pid for pid in _at_work(found).get(node_name(), []) if _is_alive(pid)]

    @contextmanager
    def _changed(self, first: JsonObject) -> Iterator[JsonObject]:
        """Yield the content of ``run.json`` (`first`, if there is none) to change it; other processes wait."""
        lock = os.open(self.directory.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = read_provenance(self.directory.run_json)[0] if self.directory.run_json.exists() else dict(first)
            yield found
            write_file(self.directory.run_json, json.dumps(found, indent=1).encode() + b"\n")
        finally:
            os.close(lock)


def _jobs_with_own(node: JsonObject) -> list[str]:
    """Return the batch jobs of a node, with that of this process."""
    own = BatchJob.of_environment(os.environ)
    return list(dict.fromkeys([*(node.get("jobs") or []), *([str(own)] if own is not None else [])]))


def _at_work(provenance: JsonObject) -> dict[str, list[int]]:
    return _processes(provenance, "at_work")


def _processes(provenance: JsonObject, name: str) -> dict[str, list[int]]:
    """Return process ids by node, as ``run.json`` has them under a name."""
    found = provenance.get(name)
    if not isinstance(found, dict):
        return {}
    return {
        str(node): [pid for pid in pids if isinstance(pid, int)]
        for node, pids in found.items()
        if isinstance(pids, list)
    }


def is_at_work(provenance: JsonObject, node: str, pid: int) -> bool:
    """Return True if a process may still run tasks: it has not left, and is not known to have died."""
    return pid in _at_work(provenance).get(node, []) and (node != node_name() or _is_alive(pid))


def has_workers_at_work(provenance: JsonObject) -> bool:
    """Return True if a process of any node may still run tasks."""
    return any(is_at_work(provenance, node, pid) for node, pids in _at_work(provenance).items() for pid in pids)


def died(provenance: JsonObject, causes: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the processes that have died, as (node, process id).

    Parameters
    ----------
    causes : iterable of (str, int)
        Those whose nannies have noted why they ended, whether or not they had left before, by names of folders.
    """
    found = [(node, pid) for node, pids in _processes(provenance, "died").items() for pid in pids]
    noted = set(causes)
    found += [
        (node, pid)
        for node, pids in _at_work(provenance).items()
        for pid in pids
        if (safe_name(node), pid) in noted or not is_at_work(provenance, node, pid)
    ]
    return list(dict.fromkeys(found))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
