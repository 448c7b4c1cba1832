"""Reports why a worker process died, which its Dask nanny knows."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from distributed import NannyPlugin

from runmem.dask_private import tell_of_exits
from runmem.memory.limits import oom_kill_count
from runmem.node.clock import clock_of
from runmem.store.append import LineAppender
from runmem.store.layout import Spool, safe_name
from runmem.store.node_name import node_name
from runmem.worker.call_recorder import stats_topic
from runmem.worker.isolation.watchdog import Watchdog
from runmem.worker.memory_events import NannyMemoryEvents

__all__ = ["RunmemNanny"]

_SIGNAL = re.compile(r"Worker process (\d+) was killed by signal (\d+)")
_EXITED = re.compile(r"Worker process (\d+) exited with status (\d+)")
_BUDGET = re.compile(r"\(pid=(\d+)\) exceeded (\d+)% memory budget")


def cause_of(message: str, oom_kills: int | None) -> tuple[int, str] | None:
    """Return (process id, cause) if a line of the nanny's log reports a death, else None.

    Parameters
    ----------
    oom_kills : int or None
        How many processes the kernel's out-of-memory killer has ended in this control group since the last death.
    """
    if match := _BUDGET.search(message):
        return int(match[1]), f"Dask's nanny ended the worker: it used more than {match[2]} % of its memory limit"
    if match := _SIGNAL.search(message):
        if match[2] == "9" and oom_kills:
            return int(match[1]), "the kernel's out-of-memory killer ended the worker (signal 9)"
        return int(match[1]), f"the worker process was killed by signal {match[2]}"
    if match := _EXITED.search(message):
        return int(match[1]), exit_cause(int(match[2]))
    return None


def exit_cause(status: int) -> str:
    """Return the cause for a worker process that has ended by itself while it ran a task."""
    return f"the worker process exited with status {status}: the task, or a library that it calls, has ended it"


class _AlwaysEnabled(logging.Logger):
    """A logger that is listened to also after the program has set its logging up, which disables those that exist."""

    @property
    def disabled(self) -> bool:
        """Whether it is off: never."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        self._asked_for = value  # by `logging.config`


class DeathWatch(logging.Filter):
    """Listens to the nanny's log, whatever level it shows, and writes what it hears of deaths to the spool."""

    def __init__(self, spool: Spool, logger: logging.Logger, heard: Callable[[str], object] = lambda _: None) -> None:
        super().__init__()
        spool.make()
        self._heard = heard
        self._file = LineAppender(spool.deaths(os.getpid()))
        self._logger = logger
        self._shown = logger.getEffectiveLevel()
        self._level = logger.level
        self._oom_kills = oom_kill_count()
        self._class = logger.__class__
        logger.__class__ = _AlwaysEnabled
        logger.addFilter(self)
        if self._shown > logging.INFO:
            logger.setLevel(logging.INFO)

    def filter(self, record: logging.LogRecord) -> bool:
        self._heard(record.getMessage())
        kills = oom_kill_count()
        new = None if kills is None or self._oom_kills is None else kills - self._oom_kills
        if (cause := cause_of(record.getMessage(), new)) is not None:
            self._oom_kills = kills
            self.note(*cause)
        return record.levelno >= self._shown and not getattr(self._logger, "_asked_for", False)

    def note(self, pid: int, cause: str, **more: Any) -> None:
        """Write why a process died."""
        self._file.write(json.dumps({"pid": pid, "cause": cause, **more}).encode() + b"\n")

    def close(self) -> None:
        self._logger.removeFilter(self)
        self._logger.setLevel(self._level)
        self._logger.__class__ = self._class
        self._logger.disabled = getattr(self._logger, "_asked_for", False)
        self._file.close()


class _ExitWatch:
    """Writes of workers that have ended with code 0, which the log of their nanny does not."""

    def __init__(self, watch: DeathWatch) -> None:
        self._watch = watch
        self.close = tell_of_exits(self._ended)

    def _ended(self, pid: int, code: int) -> None:
        if code == 0:
            self._watch.note(pid, exit_cause(code))


class _Watches(NamedTuple):
    """What watches over the nannies of this process for a run."""

    watchdog: Watchdog
    exits: _ExitWatch
    deaths: list[DeathWatch]
    events: NannyMemoryEvents

    def close(self) -> None:
        self.watchdog.close()
        self.events.close()
        self.exits.close()
        for watch in self.deaths:
            watch.close()


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
    """

    def __init__(self, run_id: str, spool: str | None = None) -> None:
        self.name = f"runmem-nanny-{run_id}"
        self._run_id = run_id
        self._spool = spool

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
            watches.events.add(nanny)
            _watches[self._run_id] = users + 1, watches

    def _watches(self) -> _Watches:
        names = ("distributed.nanny", "distributed.nanny.memory", "distributed.worker.memory")
        spool = Spool.of_run(self._run_id) if self._spool is None else Spool(Path(self._spool))
        spool.make()
        events = NannyMemoryEvents(spool.file(f"{safe_name(node_name())}.dat"), clock_of(spool.root))
        deaths = [DeathWatch(spool, logging.getLogger(name), events.heard) for name in names]
        watchdog = Watchdog(spool, deaths[0].note, self._report)
        return _Watches(watchdog, _ExitWatch(deaths[0]), deaths, events)

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
