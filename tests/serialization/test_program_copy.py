"""Copies of the program on a worker: one call at a time each, bounded, and the process's own `__main__` comes back."""

from __future__ import annotations

import pickle
import sys
import threading
import types
from typing import Any

import pytest

from runmem.graph.task import TaskFunction, task
from runmem.serialization.definitions import current_definitions, program_definitions
from runmem.serialization.program_copy import ProgramCopies
from runmem.serialization.snapshot import Snapshot, Snapshots


def snapshot_of(made: TaskFunction) -> Snapshot:
    found = Snapshots(program_definitions).of(made, frozenset())
    assert found is not None
    return found


def a_task(number: int) -> TaskFunction:
    class Box:
        value = number

    @task(returns=1)
    def give():
        return Box.value

    return give


def run(copies: ProgramCopies, snapshot: Snapshot, made: TaskFunction, body: Any = None) -> Any:
    copy = copies.begin(snapshot.outline, snapshot.constants)
    try:
        assert copy is not None
        assert current_definitions() is copy
        own = copy.object_of(program_definitions.number_of(made) or 0)
        return body(copy, own) if body is not None else own.function()
    finally:
        copies.end(snapshot.outline, copy)


def test_what_is_kept_is_bounded_in_bytes() -> None:
    tasks = [a_task(number) for number in range(20)]
    snapshots = [snapshot_of(made) for made in tasks]
    copies = ProgramCopies(keep_bytes=5 * len(snapshots[0].outline))
    definitions = list(zip(snapshots, tasks, strict=True))
    ran = [run(copies, *each, lambda copy, own: (copy, own.function())) for each in definitions]
    assert [value for _, value in ran] == list(range(20))
    again = [run(copies, *each, lambda copy, own: copy) for each in reversed(definitions)]
    kept = [copy is first for copy, (first, _) in zip(again, reversed(ran), strict=True)]
    assert kept[0]
    assert 1 <= sum(kept) <= 5


def test_one_copy_serves_calls_one_after_the_other_and_several_those_at_the_same_time() -> None:
    made = a_task(3)
    snapshot, copies = snapshot_of(made), ProgramCopies()
    first = run(copies, snapshot, made, lambda copy, own: copy)
    assert run(copies, snapshot, made, lambda copy, own: copy) is first
    inside = threading.Barrier(2, timeout=30)
    used: list[Any] = []

    def use() -> None:
        run(copies, snapshot, made, lambda copy, own: (used.append(copy), inside.wait()))

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(copy) for copy in used}) == 2


def test_plain_pickle_finds_the_program_in_main_while_a_call_runs_and_not_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    text = "from runmem.graph.task import task\nclass Box: pass\n@task(returns=1)\ndef give(): return Box()\n"
    exec(text, module.__dict__)
    made = module.__dict__["give"]

    def there_and_back(copy: Any, own: TaskFunction) -> bool:
        box = own.function()
        return sys.modules["__main__"] is copy.main and type(pickle.loads(pickle.dumps(box))) is type(box)

    copies = ProgramCopies()
    assert run(copies, snapshot_of(made), made, there_and_back)
    assert sys.modules["__main__"] is module


def test_a_call_that_fails_leaves_the_copy_as_it_was() -> None:
    made = a_task(3)
    snapshot, copies = snapshot_of(made), ProgramCopies()

    def fail(copy: Any, own: TaskFunction) -> None:
        own.function.__closure__[0].cell_contents.value = 9
        raise KeyError("it")

    with pytest.raises(KeyError):
        run(copies, snapshot, made, fail)
    assert run(copies, snapshot, made) == 3
