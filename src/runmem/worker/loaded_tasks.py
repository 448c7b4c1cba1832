"""Loads tasks, and the definitions of the program that they use, in the process that runs their calls."""

from __future__ import annotations

import pickle
from functools import lru_cache

from runmem.errors import RunmemError
from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import program_definitions
from runmem.serialization.error_parts import text_of
from runmem.serialization.program_copy import ProgramCopy, program_copies
from runmem.store.node_name import node_name
from runmem.worker.packed_call import PackedTask
from runmem.worker.process_state import become

__all__ = ["copy_for", "declared_task", "end_copy", "import_task", "load_task", "prepare_task"]


def prepare_task(task: PackedTask) -> None:
    """Load the modules and definitions of a task, in the process that is forked for its calls."""
    import_task(task)
    copy = copy_for(task)
    try:
        declared_task(task, copy, prepared=True)
    finally:
        end_copy(task, copy)


def import_task(task: PackedTask) -> None:
    """Load the modules and definitions of a task in this process."""
    become(task.process)
    if task.outline is not None:
        program_copies.prepare(task.outline)
    if task.reference is not None:
        load_task(task.reference)


@lru_cache(maxsize=512)
def load_task(reference: bytes) -> TaskFunction:
    """Return a task that this process can import."""
    task: TaskFunction = pickle.loads(reference)
    return task


def copy_for(task: PackedTask) -> ProgramCopy | None:
    """Return the definitions of the program with which a call runs, until `end_copy`; None: the process has them.

    Raises
    ------
    RunmemError
        If they cannot be made here.
    """
    try:
        return program_copies.begin(task.outline, task.constants)
    except BaseException as error:  # also SystemExit, which an imported module may raise
        raise RunmemError(
            f"the program's functions and classes that task {task.name} uses cannot be recreated on the worker, node "
            f"{node_name()} ({text_of(error)}). All modules that they use must be importable there."
        ) from error


def end_copy(task: PackedTask, copy: ProgramCopy | None) -> None:
    """End the use of what `copy_for` has returned."""
    program_copies.end(task.outline, copy)


def declared_task(packed_task: PackedTask, copy: ProgramCopy | None, prepared: bool) -> TaskFunction:
    """Return the task; `prepared`: also prepare it for calls in this process."""
    if packed_task.reference is not None:
        task = load_task(packed_task.reference)
    else:
        assert packed_task.number is not None
        task = (copy or program_definitions).object_of(packed_task.number)
    if prepared:
        task.prepare()
    return task
