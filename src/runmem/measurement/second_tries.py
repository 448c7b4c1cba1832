"""What happens on the scheduler to tasks of a plain Dask program whose worker has died.

Dask tries them again at once, beside whatever runs. The plugin marks them, so that workers run them alone on a node
(`worker/dask_tasks.py`), and fails those that the client names, which knows the cause a moment later. It travels by
value, see `carrier.py`, and so uses nothing of runmem.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from distributed import Scheduler, SchedulerPlugin

__all__ = ["SecondTries"]


class SecondTries(SchedulerPlugin):  # type: ignore[misc]
    """Marks tasks whose worker has died, and fails tasks at the client's request.

    Parameters
    ----------
    name : str
        Of the plugin, and of the topic of the requests: `{"key": text, "error": pickled exception}`, or `{}` at the
        end.
    mark : str
        Annotation of a marked task: how many workers have died with it, and the time of the last death in seconds since
        the epoch.
    """

    def __init__(self, name: str, mark: str) -> None:
        self.name = name
        self._mark = mark
        self._scheduler: Scheduler | None = None
        self._before: dict[Any, int] = {}  # deaths that a task had when it was given to its worker
        self._marked: dict[Any, bool] = {}  # whether a task had annotations before
        self._to_fail: dict[Any, bytes] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler."""
        self._scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: object, **kwargs: object) -> None:
        """Follow the deaths of a task."""
        assert self._scheduler is not None
        task = self._scheduler.tasks.get(key)
        if finish == "processing" and task is not None:
            self._before[key] = task.suspicious
            if key in self._to_fail:  # not within a transition
                asyncio.get_running_loop().call_soon(self._fail, key)
        elif start == "processing":
            before = self._before.pop(key, None)
            if task is not None and before is not None and task.suspicious > before and finish != "erred":
                self._marked.setdefault(key, bool(task.annotations))
                task.annotations = {**(task.annotations or {}), self._mark: (task.suspicious, time.time())}
        if finish in ("memory", "erred", "forgotten"):
            self._unmark(key)
            self._to_fail.pop(key, None)

    def log_event(self, topic: str, msg: Any) -> None:
        """Take a request of the client."""
        if topic != self.name:
            return
        if not msg:
            for key in list(self._marked):
                self._unmark(key)
            self._to_fail.clear()
            return
        for key in [key for key in self._marked if str(key)[: len(msg["key"])] == msg["key"]]:
            if str(key) == msg["key"] or len(msg["key"]) >= msg["longest"]:
                self._to_fail[key] = msg["error"]
                self._fail(key)

    def _fail(self, key: Any) -> None:
        """Fail a task that waits for a worker or runs on one; fail any other once it does."""
        assert self._scheduler is not None
        task = self._scheduler.tasks.get(key)
        if key not in self._to_fail or task is None or task.state not in ("processing", "queued", "no-worker"):
            return
        worker = None if task.processing_on is None else task.processing_on.address
        where = {} if worker is None else {"worker": worker}
        stimulus = "runmem-on-memory"
        try:
            then = self._scheduler.transition(
                key, "erred", stimulus_id=stimulus, exception=self._to_fail[key], cause=key, **where
            )
        except AssertionError:  # an earlier version of Dask, which fails only tasks that a worker has
            return
        self._to_fail.pop(key, None)
        self._scheduler.transitions(then, stimulus_id=stimulus)
        if worker is not None:
            self._scheduler.worker_send(worker, {"op": "free-keys", "keys": [key], "stimulus_id": stimulus})

    def _unmark(self, key: Any) -> None:
        had_annotations = self._marked.pop(key, None)
        task = None if self._scheduler is None else self._scheduler.tasks.get(key)
        if had_annotations is None or task is None or not task.annotations:
            return
        others = {name: value for name, value in task.annotations.items() if name != self._mark}
        task.annotations = others if others or had_annotations else None
