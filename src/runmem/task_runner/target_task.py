"""The task that runs a target: made from a runner here, with all that a worker needs of it."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runmem.errors import ArgumentError
from runmem.graph.task import TaskFunction
from runmem.serialization import pickling
from runmem.shadowed import current_shadowing
from runmem.task_runner.config import Config
from runmem.task_runner.data_ids import described, recorded
from runmem.task_runner.fork_server import ServerSetup
from runmem.task_runner.isolation import Ended, prepare, run_target

if TYPE_CHECKING:
    from runmem.task_runner.runner import TaskRunner

__all__ = ["TargetTask", "task_of", "packed_arguments"]


def task_of(runner: TaskRunner, deadline_s: float | None) -> TargetTask:
    """Return what runs a target, as a task with the name of the runner's; it travels once, with the runner in it."""
    failures, runner.failures = runner.failures, []
    try:
        packed = pickling.dumps(runner)
        classes = _classes_for(runner.config)
    except Exception as error:
        raise ArgumentError(
            f"{type(runner).__name__} of {runner.TaskClass.__name__} cannot be sent to another process "
            f"({type(error).__name__}: {error}). Drop what cannot be pickled in prepareForMultiProcessing."
        ) from error
    finally:
        runner.failures = failures
    setup = pickle.dumps(ServerSetup(packed, list(sys.path), runner.logLevels, classes, current_shadowing()))
    isolate, limit_s = runner.isolate, runner.timeoutPerTarget

    def call(data_id: str | None, target: bytes) -> Ended:
        return run_target(setup, isolate, limit_s, deadline_s, target)

    call.__qualname__ = f"{runner.TaskClass.__qualname__}.runDataRef"
    call.__module__ = runner.TaskClass.__module__
    try:
        file = inspect.getsourcefile(runner.TaskClass) or ""
    except (TypeError, OSError):  # a class that was typed in
        file = ""
    return TargetTask(call, file, setup, isolate)


def _classes_for(config: Any) -> bytes:
    """Return the pickled classes of the program, if its configuration is one of LSST, defined in the program itself."""
    if isinstance(config, Config) or type(config).__module__ != "__main__":
        return b""
    found = vars(sys.modules["__main__"]).items()
    classes = {name: value for name, value in found if isinstance(value, type) and value.__module__ == "__main__"}
    return pickling.dumps(classes)


class TargetTask(TaskFunction):
    """The task of a runner: its records name the file of the runner's task, not this one, and the data id."""

    def __init__(self, function: Callable[..., Ended], file: str, setup: bytes, isolate: bool) -> None:
        super().__init__(function, {"returns": 1})
        self.setup, self.isolate = setup, isolate
        if file:
            self.file = file
            self.module = Path(file).stem if self.__module__ == "__main__" else self.__module__

    def __reduce__(self) -> tuple[Any, ...]:
        return _on_worker, (self.function, self.file, self.setup, self.isolate)

    def made_for(self, data: bytes) -> TaskFunction:
        """Return the task of one call, with its data id."""
        (data_id, _), _ = pickle.loads(data)
        return self.named(data_id)

    def named(self, data_id: str) -> TargetTask:
        """Return the task of the call for one target."""
        made = TargetTask.__new__(TargetTask)
        made.__dict__.update(self.__dict__)
        made.data_id = data_id
        return made


def _on_worker(function: Callable[..., Ended], file: str, setup: bytes, isolate: bool) -> TargetTask:
    """Return the task in a worker, which gets ready for the first target: that is not in the time of any."""
    prepare(setup, isolate)
    return TargetTask(function, file, setup, isolate)


def packed_arguments(target: Any) -> tuple[str, bytes]:
    """Return the arguments of the task for a target: its data id and the target itself. Raises ArgumentError."""
    ref = target[0] if isinstance(target, tuple) and target else target
    try:
        data = pickling.dumps_data(target)
    except Exception as error:
        raise ArgumentError(
            f"the target {described(target)} cannot be sent to another process ({type(error).__name__}: {error})."
        ) from error
    return recorded(ref), data
