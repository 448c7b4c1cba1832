"""A small submitter that really executes calls, in this process, in any order that their data allow."""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.current import set_current_program
from runmem.graph.elements import value_at
from runmem.graph.file_attempt import FileAttempt
from runmem.graph.future import Future
from runmem.graph.program import Program


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, version_of: Callable[[Any], Version | None], inputs: list[Version]) -> None:
        super().__init__(file, protocol=5)
        self._version_of = version_of
        self._inputs = inputs

    def persistent_id(self, obj: Any) -> int | None:
        version = self._version_of(obj)
        if version is None:
            return None
        self._inputs.append(version)
        return len(self._inputs) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, values: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(data))
        self.persistent_load = values.__getitem__


class _State:
    def __init__(self, call: TaskCall, data: bytes, inputs: list[Version]) -> None:
        self.call = call
        self.data = data
        self.inputs = inputs
        self.outputs: tuple[Any, ...] | None = None
        self.error: BaseException | None = None
        self.seen = False
        self.times_run = 0

    @property
    def done(self) -> bool:
        return self.ended

    keeps_files = never_ran = False

    @property
    def ended(self) -> bool:
        return self.outputs is not None or self.error is not None


class InMemorySubmitter:
    """Runs calls when they are waited for, in a random order that their data allow, and some of them twice.

    A second run stands for what Dask does when a result is lost: it must give the same result as the first.
    """

    def __init__(self, seed: int = 0, again: float = 0.0) -> None:
        self._random = random.Random(seed)
        self._again = again
        self.calls: list[TaskCall] = []

    def submit(self, call: TaskCall, resolve: Callable[[Any], Version | None] | None) -> None:
        def version_of(obj: Any) -> Version | None:
            if type(obj) is Version:
                return obj
            if type(obj) is Future:
                return obj.version
            return resolve(obj) if resolve is not None else None

        inputs: list[Version] = []
        buffer = io.BytesIO()
        _Pickler(buffer, version_of, inputs).dump((call.args, call.kwargs))
        call.execution.state = _State(call, buffer.getvalue(), inputs)
        self.calls.append(call)

    def fetch(self, versions: Sequence[Version]) -> list[Any]:
        self.wait([version.execution for version in versions])
        return [_copy(version.execution.state.outputs[version.output]) for version in versions]

    def wait(self, executions: Sequence[Execution] | None, raises: bool = True) -> None:
        wanted = [call.execution for call in self.calls] if executions is None else list(executions)
        while left := [e for e in wanted if not e.state.ended]:
            self._run_one_of(left)
        for execution in wanted if raises else ():
            state = execution.state
            if state.error is not None and not (executions is None and state.seen):
                state.seen = True
                raise state.error

    def has_ended(self, execution: Execution) -> bool:
        """Run a call each time that somebody asks: nothing else goes on here."""
        if not execution.state.ended:
            self._run_one_of([execution])
        return execution.state.ended

    def _run_one_of(self, wanted: Sequence[Execution]) -> None:
        """Run any call that can run: one that is wanted, one that those need, or another one."""
        waiting = [call.execution for call in self.calls if not call.execution.state.ended]
        ready = [e for e in waiting if all(needed.state.ended for needed in _needs(e))]
        assert ready, f"{wanted[0].name} can never run: its data wait for each other"
        execution = self._random.choice(ready)
        self._run(execution)
        while self._random.random() < self._again:
            self._run_again(self._random.choice([c.execution for c in self.calls if c.execution.state.ended]))

    def _run(self, execution: Execution) -> None:
        state: _State = execution.state
        for needed in _needs(execution):
            if needed.state.error is not None:
                state.error = needed.state.error
                return
        try:
            state.outputs = self._outputs(state)
        except BaseException as error:
            state.error = error
        state.times_run += 1

    def run_again(self, execution: Execution) -> None:
        """Run a call that has ended again, as Dask does with one whose result was lost."""
        execution.state.outputs = self._outputs(execution.state)

    def _run_again(self, execution: Execution) -> None:
        state: _State = execution.state
        if state.error is not None:
            return
        first, state.outputs = state.outputs, self._outputs(state)
        state.times_run += 1
        assert first == state.outputs, f"{execution.name} gave {first!r}, and {state.outputs!r} when it ran again"

    def _outputs(self, state: _State) -> tuple[Any, ...]:
        call = state.call
        files = FileAttempt(call.files)
        values = [version.execution.state.outputs[version.output] for version in state.inputs]
        if call.writes:
            values = _copy(values)
        args, kwargs = _Unpickler(state.data, values).load()
        args = list(args)
        files.give_paths(args, kwargs)
        result = call.task.run(*args, **kwargs)
        files.ended()
        written = [value_at(slot, args, kwargs, call.task.name) for slot in call.writes]
        returned = () if call.returns == 0 else (result,) if call.returns == 1 else tuple(result)
        assert len(returned) + len(written) == call.execution.outputs
        return (*returned, *written)


def _needs(execution: Execution) -> list[Execution]:
    state: _State = execution.state
    return [version.execution for version in state.inputs] + list(state.call.after)


def _copy(value: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(value))


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., InMemorySubmitter]]:
    """Return a function that begins a program whose task calls go to a new `InMemorySubmitter`."""

    def start(seed: int = 0, again: float = 0.0) -> InMemorySubmitter:
        submitter = InMemorySubmitter(seed, again)
        set_current_program(Program(submitter, lambda: tmp_path / "versions" / str(seed)))
        return submitter

    yield start
    set_current_program(None)


@pytest.fixture
def submitter(start_program: Callable[..., InMemorySubmitter]) -> InMemorySubmitter:
    """Begin a program; return where its calls go."""
    return start_program()
