"""Makes the task that runs targets from a runner."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runmem.errors import ArgumentError, RunmemError
from runmem.graph.isolation import Isolation
from runmem.graph.task import TaskFunction
from runmem.pipe_base.config import Config
from runmem.serialization import pickling
from runmem.store.node_name import node_name
from runmem.task_runner.data_ids import described, recorded
from runmem.task_runner.implicit_threading import disableImplicitThreading
from runmem.task_runner.target_outcome import TargetOutcome, run_target

if TYPE_CHECKING:
    from runmem.task_runner.runner import TaskRunner

__all__ = ["PackedRunner", "TargetTask", "copies_of", "packed_arguments", "task_of"]

_COPIES_BYTES = 1 << 15


class PackedRunner(NamedTuple):
    """A runner on its way to another process.

    Attributes
    ----------
    runner : bytes
        The pickled runner.
    log_levels : dict
        Levels of loggers.
    classes : bytes
        Pickle of the program's own classes by name, where the runner's pickle looks for them in ``__main__``: that of
        a configuration of LSST is a text that does. Empty: there is no such.
    """

    runner: bytes
    log_levels: dict[str, int]
    classes: bytes = b""

    def load(self) -> TaskRunner:
        """Return the runner. Raises RunmemError if it cannot be loaded."""
        try:
            if self.classes:
                vars(sys.modules["__main__"]).update(pickle.loads(self.classes))
            runner: TaskRunner = pickle.loads(self.runner)
        except Exception as error:
            raise RunmemError(
                f"the task cannot be loaded on node {node_name()}: {type(error).__name__}: {error}. Its modules must "
                "be importable there."
            ) from error
        return runner


def copies_of(runner: TaskRunner) -> Callable[[], TaskRunner]:
    """Return a function that makes copies of a runner, so that no target sees what an earlier one has changed."""
    try:
        packed = pickle.dumps(runner, pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)
    except Exception:  # it travelled by value, as what the program itself defines does
        return functools.partial(copy.deepcopy, runner)
    return _copies(packed).__next__


def _copies(packed: bytes) -> Iterator[TaskRunner]:
    """Yield a pickled runner, again and again: several at once, as the second takes a fraction of the first's time."""
    at_once = max(1, _COPIES_BYTES // len(packed))
    while True:
        yield from [pickle.loads(packed) for _ in range(at_once)]


def task_of(runner: TaskRunner) -> TargetTask:
    """Return the task that runs a target; it has the name of the runner's task, and the runner in it."""
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
    try:
        file = inspect.getsourcefile(runner.TaskClass) or ""
    except (TypeError, OSError):  # a class that was typed in
        file = ""
    module: str = runner.TaskClass.__module__
    if module == "__main__" and file:
        module = Path(file).stem
    return TargetTask(
        PackedRunner(packed, runner.logLevels, classes),
        f"{runner.TaskClass.__qualname__}.runDataRef".replace("<locals>.", ""),
        module,
        file,
        Isolation(fresh_process=runner.isolate, limit_s=runner.timeoutPerTarget),
    )


def _classes_for(config: object) -> bytes:
    """Return the pickled classes of the program, if its configuration is one of LSST, defined in the program itself."""
    if isinstance(config, Config) or type(config).__module__ != "__main__":
        return b""
    found = vars(sys.modules["__main__"]).items()
    classes = {name: value for name, value in found if isinstance(value, type) and value.__module__ == "__main__"}
    return pickling.dumps(classes)


class TargetTask(TaskFunction):
    """The task of a runner: its records have the name and file of the runner's task, and the data id."""

    def __init__(self, packed: PackedRunner, name: str, module: str, file: str, isolation: Isolation) -> None:
        super().__init__(_call, {"returns": 1})
        self.packed, self.name, self.module, self.file = packed, name, module, file
        self.isolation = isolation

    def __reduce__(self) -> tuple[object, ...]:
        return TargetTask, (self.packed, self.name, self.module, self.file, self.isolation)

    def prepare(self) -> None:
        """Load the runner, whose modules are to find implicit threading off."""
        _loaded(self.packed.runner, self.packed.classes)

    def run(self, data_id: str | None, target: bytes) -> TargetOutcome:
        """Run a target."""
        runner, make_runner = _loaded(self.packed.runner, self.packed.classes)
        return run_target(runner if self.isolation.fresh_process else make_runner(), target)

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


def _call(data_id: str | None, target: bytes) -> None:
    """Give calls of a `TargetTask` their signature."""


@functools.lru_cache(maxsize=1)
def _loaded(runner: bytes, classes: bytes) -> tuple[TaskRunner, Callable[[], TaskRunner]]:
    """Return a runner, and a function that makes copies of it."""
    disableImplicitThreading()
    loaded = PackedRunner(runner, {}, classes).load()
    disableImplicitThreading()  # also of what was loaded meanwhile
    return loaded, copies_of(loaded)


def packed_arguments(target: object) -> tuple[str, bytes]:
    """Return the arguments of the task for a target: its data id and the target itself. Raises ArgumentError."""
    ref = target[0] if isinstance(target, tuple) and target else target
    try:
        data = pickling.dumps_data(target)
    except Exception as error:
        raise ArgumentError(
            f"the target {described(target)} cannot be sent to another process ({type(error).__name__}: {error})."
        ) from error
    return recorded(ref), data
