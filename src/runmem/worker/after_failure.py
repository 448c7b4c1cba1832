"""What a call leaves that raised, where its task declares `on_failure`."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Sequence

from runmem.errors import CommandError, COMPSsException
from runmem.graph.call import Slot
from runmem.graph.elements import root, value_at
from runmem.graph.failure import Management
from runmem.graph.task import TaskFunction
from runmem.serialization.error_parts import class_name
from runmem.worker.record_fields import set_record_fields

__all__ = ["is_ignored", "keep_files", "keeps_output", "outputs_after_failure", "report_ignored"]


def keeps_output(task: TaskFunction, error: BaseException) -> bool:
    """Return True if the files that a call has written so far become their new versions although it raised."""
    return _is_raised_for_group(error) or task.on_failure is not None and task.on_failure.keeps_output


def is_ignored(task: TaskFunction, error: BaseException) -> bool:
    """Return True if the program goes on as if the call had ended well."""
    ignores = task.on_failure is not None and task.on_failure.management is Management.IGNORE
    return ignores and issubclass(type(error), Exception) and not _is_raised_for_group(error)


def _is_raised_for_group(error: BaseException) -> bool:
    """Return True for an error by which a task itself ends its group: not for a command that failed."""
    return issubclass(type(error), COMPSsException) and not issubclass(type(error), CommandError)


def keep_files(task: TaskFunction, args: Sequence[object], kwargs: dict[str, object]) -> None:
    """Put the declared default files in place of what the call wrote."""
    values = task.on_failure.values if task.on_failure is not None else {}
    for slot, use in task.signature.uses(tuple(args), kwargs):
        default = values.get(task.signature.parameter_at(slot))
        path = kwargs[slot] if isinstance(slot, str) else args[slot]
        if use.is_path and not use.depth and use.direction.writes and None not in (default, path):
            shutil.copyfile(str(default), str(path))


def outputs_after_failure(
    task: TaskFunction, returns: int, writes: Sequence[Slot], args: list[object], kwargs: dict[str, object]
) -> Sequence[object]:
    """Return the outputs of a call whose failure is ignored: declared values, else None and what it has written."""
    assert task.on_failure is not None
    written = []
    for slot in writes:
        parameter = task.signature.parameter_at(root(slot))
        declared = {root(slot): task.on_failure.values.get(parameter)}
        if declared[root(slot)] is not None:
            given = [declared.get(place) for place in range(len(args))]
            written.append(value_at(slot, given, dict(declared), task.name))  # type: ignore[arg-type]
        else:
            written.append(value_at(slot, args, kwargs, task.name))
    return (*task.on_failure.returned(returns), *written)


def report_ignored(task: TaskFunction, task_id: int, error: BaseException) -> None:
    """Print an error that is ignored, and count the call as failed in its record."""
    set_record_fields(status="failed", exception=class_name(error))
    print(f"runmem: task {task.name} (call {task_id}) failed, and its failure is ignored:", file=sys.stderr)
    traceback.print_exception(error)
