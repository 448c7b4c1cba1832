"""How a task runs whose function is not simply called: what the decorators above `@task` add up to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from runmem.commands.call_arguments import CallArguments, Count
from runmem.commands.command import CommandLine, ExitPolicy, start_command
from runmem.commands.containers import Container
from runmem.commands.elsewhere import FunctionElsewhere
from runmem.graph.task import TaskFunction
from runmem.worker.cancellation import interruptible

__all__ = ["Nodes", "Step", "TaskBody", "TaskLaunch"]


class TaskBody(Protocol):
    """What runs in place of a task's function."""

    def run(self, call: CallArguments, container: Container | None = None) -> object:
        """Run it for one call and return the value of the task."""


@dataclass(frozen=True, slots=True)
class Step:
    """A program that runs before or after a task."""

    program: CommandLine
    exit_policy: ExitPolicy

    def run(self, call: CallArguments) -> None:
        """Run the program for one call. Raises CommandError."""
        folder = os.getcwd()
        words = self.program.words(call, folder, None)
        self.exit_policy.check(start_command(words, call, folder), words, call.place)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The processes that `@multinode` asks for, on the one node that a call runs on."""

    processes_per_node: Count = Count("1")

    @contextmanager
    def environment(self, call: CallArguments) -> Iterator[None]:
        """Set environment variables with the nodes and cores of the task, as PyCOMPSs does."""
        units = str(max(1, call.units()))
        names = call.environment() | {
            "COMPSS_NUM_PROCS": str(self.processes_per_node.of(call)),
            "COMPSS_NUM_THREADS": units,
            "OMP_NUM_THREADS": units,
        }
        changed = {name: value for name, value in names.items() if os.environ.get(name) != value}
        before = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@dataclass(frozen=True, slots=True)
class TaskLaunch:
    """How one task runs.

    Attributes
    ----------
    body : TaskBody or None
        None: the function.
    container : Container or None
        Where the body runs.
    prolog, epilog : Step or None
    nodes : Nodes or None
    """

    body: TaskBody | None = None
    container: Container | None = None
    prolog: Step | None = None
    epilog: Step | None = None
    nodes: Nodes | None = None

    def run(self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Run one call of the task, to its end, and return its value; of a command that is the exit value."""
        call = CallArguments(task, args, kwargs)
        if self.prolog is not None:
            self.prolog.run(call)
        if self.nodes is None:
            value = self._value(call)
        else:
            with self.nodes.environment(call):
                value = self._value(call)
        if self.epilog is not None:
            self.epilog.run(call)
        return value

    def _value(self, call: CallArguments) -> object:
        if self.body is not None:
            return self.body.run(call, self.container)
        if self.container is not None:
            return FunctionElsewhere().run(call, self.container)
        with interruptible():
            return call.task.run_function(*call.args, **call.kwargs)
