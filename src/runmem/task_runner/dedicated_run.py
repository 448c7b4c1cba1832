"""The run that targets belong to: the one under way, or one dedicated to them."""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from runmem.clusters.local import kill_embedded_workers
from runmem.clusters.spawning import is_importing_main
from runmem.errors import SettingError
from runmem.execution.session import session
from runmem.graph.current import current_program

if TYPE_CHECKING:
    from runmem.execution.run import Run
    from runmem.task_runner.runner import TaskRunner

__all__ = ["DedicatedRun", "run_for"]

_KILL_INTERVAL_S = 0.1
_INTERRUPTED = 128 + signal.SIGINT


class DedicatedRun:
    """A run for these targets only; its exit code is set at the end."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.exit_code = 1
        self._has_ended = threading.Event()
        self._abandoning: threading.Thread | None = None

    def abandon(self) -> None:
        """Make a cluster that is still starting fail: kill each of its workers until the run has ended."""
        if self._abandoning is None:
            self._abandoning = threading.Thread(target=self._kill_workers, daemon=True)
            self._abandoning.start()

    def _kill_workers(self) -> None:
        while not self._has_ended.wait(_KILL_INTERVAL_S):
            kill_embedded_workers()

    def finish(self, complete: bool) -> None:
        """End the run."""
        try:
            self.run.finish(self.exit_code, complete)
        finally:
            self._has_ended.set()


def run_for(runner: TaskRunner, targets: int) -> AbstractContextManager[DedicatedRun | None]:
    """Use the run that is under way (None), or one for these targets, which the caller starts."""
    if current_program() is not None:
        return nullcontext()
    if is_importing_main():
        raise SettingError(
            "this process was started by multiprocessing and imports the program again: put parseAndRun below "
            "`if __name__ == '__main__':`."
        )
    name = getattr(runner.TaskClass, "_DefaultName", runner.TaskClass.__name__)
    settings: dict[str, Any] = {"workers": min(runner.numProcesses, targets), "python_memory_profile": True}
    if runner.runFolder is not None:
        settings["run_folder"] = runner.runFolder
    run = session(app=name, **settings)
    return _Using(DedicatedRun(run))


class _Using(AbstractContextManager[DedicatedRun]):
    """A run is prepared, and ends with the block. Not a `contextmanager`, which sets attributes of what is raised."""

    def __init__(self, dedicated: DedicatedRun) -> None:
        self._dedicated = dedicated

    def __enter__(self) -> DedicatedRun:
        self._dedicated.run.prepare()
        return self._dedicated

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._dedicated.exit_code = _INTERRUPTED
        self._dedicated.finish(kind is None)
