"""Calls that go through everything on their way to a worker and back, in this process."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from runmem.execution.results import loaded_value
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.task import TaskFunction
from runmem.serialization.arguments import pack
from runmem.serialization.definitions import program_definitions, run_program
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import Packed
from runmem.serialization.snapshot import Snapshots
from runmem.worker.bundle_runner import run_bundle
from runmem.worker.packed_call import BundleFailed, PackedCall, PackedTask


class State:
    def __init__(self, classes: frozenset[int]) -> None:
        self.classes = classes


class Carrier:
    """Packs calls as the program does and runs them as a worker does; what lies between is pickled.

    Attributes
    ----------
    sent : dict
        Large values that were sent, by version.
    """

    def __init__(self, copied: bool = False) -> None:
        self.snapshots = Snapshots(program_definitions)
        self.sent: dict[Version, Packed] = {}
        self.kept: dict[Version, Any] = {}
        self.large = LargeValues(self._send)
        self.copied = copied
        self.calls = 0
        self.outlines: list[bytes | None] = []
        self.data: list[bytes] = []

    def _send(self, value: Packed, numbers: frozenset[int]) -> Version:
        version = Version(Execution(0, "argument", 1, State(numbers)), 0)
        self.sent[version] = self.kept[version] = pickle.loads(pickle.dumps(value, 5))
        return version

    def submit(self, task: TaskFunction, *args: Any, writes: tuple[Any, ...] = (), **kwargs: Any) -> Version:
        """Run a call; return the version that stands for its result."""
        self.calls += 1
        outputs = task.returns.count + len(writes)
        execution = Execution(self.calls, task.name, outputs)
        call = TaskCall(execution, task, args, kwargs, task.returns.count, writes)
        payload = pack(call, None, self.large, self.snapshots, lambda version: version.execution.state.classes)
        snapshot = payload.snapshot
        execution.state = State(snapshot.travelling if snapshot is not None else frozenset())
        number = program_definitions.number_of(task)
        outline = snapshot.outline if snapshot is not None else None
        self.outlines.append(outline)
        self.data.append(payload.arguments.data)
        packed_task = PackedTask(
            task.name, pickle.dumps(task) if number is None else None, number, outline,
            snapshot.constants if snapshot is not None else b"", call.returns, self.copied,
        )  # fmt: skip
        packed_call = PackedCall(
            self.calls, 0, payload.arguments, writes, (), [(i, None, None) for i in range(len(payload.inputs))]
        )
        kept = [self.kept[version] for version in payload.inputs]
        arguments = pickle.loads(pickle.dumps(((packed_task,), pickle.dumps([packed_call])), 5))
        result = run_bundle("no run", "key-1", *arguments, *kept)
        version = Version(execution, 0)
        self.kept[version] = result
        return version

    def value(self, version: Version, output: int = 0) -> Any:
        """Return what the program gets for a version."""
        run_program(True)
        result = self.kept[version]
        result = result.values if version.execution.outputs > 1 else result
        return loaded_value(Version(version.execution, output), pickle.loads(pickle.dumps(result, 5)))

    def call(self, task: TaskFunction, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a call; raise what it raised."""
        try:
            return self.value(self.submit(task, *args, **kwargs))
        except BundleFailed as failed:
            raise pickle.loads(pickle.dumps(failed.outcomes[0][1])).load() from None


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
def copying_carrier() -> Carrier:
    return Carrier(copied=True)
