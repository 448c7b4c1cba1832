"""Reports why a worker process died, which its Dask nanny knows."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from distributed import NannyPlugin

from runmem.collection.spool_reader import read_last
from runmem.dask_private import report_exits, worker_memory_limit
from runmem.deaths import Cause, Death
from runmem.memory.causes_of_death import death_by_exit, death_in_log, death_of_process
from runmem.memory.kernel_kills import KernelKills
from runmem.node.clock import clock_of
from runmem.store.append import LineAppender
from runmem.store.layout import Spool, safe_name
from runmem.store.node_name import node_name
from runmem.worker.isolation.watchdog import Watchdog
from runmem.worker.memory_events import NannyMemoryEvents
from runmem.worker.node_then import NodeThen
from runmem.worker.run_on_workers import stats_topic
from runmem.worker.running_calls import calls_of_dead

__all__ = ["RunmemNanny"]


class _AlwaysEnabled(logging.Logger):
    """A logger that is listened to also after the program has set its logging up, which disables those that exist."""

    @property
    def disabled(self) -> bool:
        """Whether it is off: never."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        self._asked_for = value  # by `logging.config`


class DeathNotes:
    """Writes to the spool why processes of this node died, with the facts about the node at that moment."""

    def __init__(self, spool: Spool) -> None:
        spool.make()
        self._spool = spool
        self.node = NodeThen(spool)
        self.kills = KernelKills()
        self.memory_events = NannyMemoryEvents(spool.file(f"{safe_name(node_name())}.dat"), clock_of(spool.root))
        self.noted: Callable[[int], object] = lambda pid: None
        self._file = LineAppender(spool.deaths(os.getpid()))

    def note(self, pid: int, death: Death, **more: Any) -> None:
        """Write how a process died, and what it ran; `more`: the call that was the reason, and its stack."""
        if death.cause is Cause.NANNY_LIMIT:
            self.memory_events.terminated(pid)
        ran = calls_of_dead(self._spool.running(pid))
        its = {} if ran is None else {"worker": ran.address, "calls": ran.calls}
        if ran is None and death.status is not None and not self._spool.tasks(pid).exists():
            death = death_of_process(death.status, self.kills)  # it has not begun a task
        values = asdict(self.node.complete(pid, death))
        self._file.write(json.dumps({"pid": pid, **its, **values, **more}).encode() + b"\n")
        self.noted(pid)

    def note_late(self, pid: int, words: str, **more: Any) -> None:
        """Write that a process is ended because a call in it has reached its time limit."""
        self.note(pid, Death(Cause.TIME_LIMIT, words), **more)

    def note_exit(self, pid: int, code: int) -> None:
        """Write that a process has ended with code 0, which the log of its nanny does not."""
        if code == 0:
            self.note(pid, death_by_exit(code))

    def close(self) -> None:
        """Close the files."""
        self.memory_events.close()
        self._file.close()


class DeathWatch(logging.Filter):
    """Listens to a nanny's log, whatever level it shows, and notes the deaths that it reports.

    Parameters
    ----------
    notes : DeathNotes
    logger : logging.Logger
    limit_of : callable
        Takes a process id; returns the memory limit that its nanny has for it, in bytes, or None.
    """

    def __init__(
        self, notes: DeathNotes, logger: logging.Logger, limit_of: Callable[[int], int | None] = lambda pid: None
    ) -> None:
        super().__init__()
        self._notes = notes
        self._limit_of = limit_of
        self._logger = logger
        self._shown = logger.getEffectiveLevel()
        self._level = logger.level
        self._class = logger.__class__
        logger.__class__ = _AlwaysEnabled
        logger.addFilter(self)
        if self._shown > logging.INFO:
            logger.setLevel(logging.INFO)

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if (found := death_in_log(record.getMessage(), self._notes.kills, self._limit_of)) is not None:
                self._notes.note(*found)
        except Exception:  # the nanny goes on
            logging.getLogger(__name__).exception("a death of a worker is not explained")
        return record.levelno >= self._shown and not getattr(self._logger, "_asked_for", False)

    def close(self) -> None:
        self._logger.removeFilter(self)
        self._logger.setLevel(self._level)
        self._logger.__class__ = self._class
        self._logger.disabled = getattr(self._logger, "_asked_for", False)


class _Watches(NamedTuple):
    """What watches over the nannies of this process for a run."""

    watchdog: Watchdog
    end_of_exits: Callable[[], None]
    logs: list[DeathWatch]
    notes: DeathNotes

    def close(self) -> None:
        self.watchdog.close()
        self.end_of_exits()
        for log in self.logs:
            log.close()
        self.notes.close()


_watches: dict[str, tuple[int, _Watches]] = {}
_lock = threading.Lock()


class RunmemNanny(NannyPlugin):  # type: ignore[misc]
    """Notes why the worker under a Dask nanny died, and ends one whose call takes longer than it may.

    Nannies that share a process share what watches.

    Parameters
    ----------
    run_id : str
    spool : str, optional
        Folder to write to; default the spool of the run on this node.
    host : str, optional
        Node of the program, which reads the spool there itself.
    """

    def __init__(self, run_id: str, spool: str | None = None, host: str | None = None) -> None:
        self.name = f"runmem-nanny-{run_id}"
        self._run_id = run_id
        self._spool = spool
        self._host = host

    def setup(self, nanny: Any) -> None:
        """Begin to listen."""
        with _lock:
            users, watches = _watches.get(self._run_id, (0, None))
            if watches is None:
                try:
                    watches = self._watches()
                except Exception:
                    logging.getLogger(__name__).exception("deaths of workers will not be explained")
                    return
            watches.watchdog.add(nanny)
            watches.notes.memory_events.add(nanny)
            _watches[self._run_id] = users + 1, watches

    def _watches(self) -> _Watches:
        names = ("distributed.nanny", "distributed.nanny.memory", "distributed.worker.memory")
        spool = Spool.of_run(self._run_id) if self._spool is None else Spool(Path(self._spool))
        notes = DeathNotes(spool)
        watchdog = Watchdog(spool, notes.note_late, self._report, notes.node.look)
        notes.noted = partial(self._send_last_news, watchdog)
        logs = [DeathWatch(notes, logging.getLogger(name), partial(_limit_of, watchdog)) for name in names]
        return _Watches(watchdog, report_exits(notes.note_exit), logs, notes)

    def _send_last_news(self, watchdog: Watchdog, pid: int) -> None:
        """Send what the master has not read of this node if no worker is left, through which it could ask."""
        if self._host in (None, node_name()) or not watchdog.nannies:
            return
        if (news := read_last(self._run_id)) is not None:
            files = {name: list(piece) for name, piece in news.files.items()}
            message = {"left": news.node, "files": files, "more": news.more, "dead": [pid]}
            self._report(watchdog.nannies[0], message)

    def _report(self, nanny: Any, message: dict[str, Any]) -> None:
        """Report to the master; from any thread."""
        nanny.loop.add_callback(nanny.log_event, stats_topic(self._run_id), message)

    def teardown(self, nanny: Any) -> None:
        """Stop listening, with the last nanny of this process."""
        with _lock:
            users, watches = _watches.pop(self._run_id, (1, None))
            if watches is None:
                return
            if users > 1:
                _watches[self._run_id] = users - 1, watches
            else:
                watches.close()


def _limit_of(watchdog: Watchdog, pid: int) -> int | None:
    """Return the memory limit at which the nanny of process `pid` acts."""
    return next((worker_memory_limit(nanny) for nanny in watchdog.nannies if nanny.pid == pid), None)
