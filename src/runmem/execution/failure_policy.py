"""Applies the failure policies of tasks (`on_failure`) in the submitters."""

from __future__ import annotations

from runmem.errors import COMPSsException, RunmemError, TaskCancelledError
from runmem.graph.call import Execution, Version
from runmem.graph.failure import MOST_TRIES, Management, OnFailure
from runmem.serialization.error_parts import text_of
from runmem.serialization.packed import pack_value
from runmem.serialization.task_error import RemoteError, root_task
from runmem.standard_error import say

__all__ = [
    "final_error",
    "gives_none",
    "is_failure",
    "is_own_error",
    "keeps_files",
    "never_ran",
    "note_cancelled",
    "outputs_of_ignored",
    "stand_in",
]


def is_own_error(execution: Execution, error: BaseException) -> bool:
    """Return True if the error is this call's own, not one of a call that it depends on."""
    return root_task(error) in (None, execution.task_id)


def is_failure(execution: Execution, error: BaseException) -> bool:
    """Return True if the call itself has failed: not if it was cancelled, or needs one that failed."""
    return is_own_error(execution, error) and type(error) is not TaskCancelledError


def final_error(
    execution: Execution,
    error: BaseException,
    on_failure: OnFailure | None,
    tries: int,
    returns: int,
    has_changed_data: bool = False,
) -> BaseException | None:
    """Return the error with which a failed call ends, or None if it is tried again; print a line if a policy applies.

    Parameters
    ----------
    tries : int
        Number of times that the call has run.
    returns : int
        Number of values that it returns.
    has_changed_data : bool
        Whether it may have changed its data in place, so that it cannot run again on the same.
    """
    if on_failure is None or not is_failure(execution, error) or issubclass(type(error), COMPSsException):
        return error
    what = f"runmem: task {execution.name} (call {execution.task_id}) failed"
    if on_failure.is_default and (has_changed_data or not _may_pass_next_time(error)):
        if has_changed_data:
            say(
                f"{what}, and is not tried again, because it has changed its INOUT data in place (with "
                f'on_failure="RETRY" it would get a copy): {text_of(error)}'
            )
        return error
    if on_failure.management is Management.RETRY and tries < MOST_TRIES:
        say(f"{what}, try {tries} of {MOST_TRIES}: {text_of(error)}")
        return None
    if on_failure.management is Management.CANCEL_SUCCESSORS:
        say(f"{what}, and the calls that depend on it are cancelled: {text_of(error)}")
        cancelled = TaskCancelledError(execution.name, execution.task_id, "failed")
        cancelled.has_run = cancelled.gives_none = True
        cancelled.values = on_failure.returned(returns)
        return cancelled
    return error


def _may_pass_next_time(error: BaseException) -> bool:
    """Return True for an exception of the task's own; those of runmem report what another try would not change."""
    return not issubclass(type(error), RunmemError) or issubclass(type(error), RemoteError)


def outputs_of_ignored(execution: Execution, on_failure: OnFailure, returns: int, error: BaseException) -> object:
    """Return packed outputs for a call whose failure is ignored and whose process died before it could report them."""
    say(
        f"runmem: task {execution.name} (call {execution.task_id}) failed, and its failure is ignored: {text_of(error)}"
    )
    values = (*on_failure.returned(returns), *[None] * (execution.outputs - returns))
    packed_values = tuple(pack_value(value, f"the value of task {execution.name} that failed") for value in values)
    return packed_values if len(packed_values) != 1 else packed_values[0]


def keeps_files(execution: Execution, error: BaseException | None) -> bool:
    """Return True if the files of a failed call keep the changes that it made."""
    if error is None or not is_own_error(execution, error):
        return False
    return issubclass(type(error), COMPSsException) or type(error) is TaskCancelledError and error.has_run


def never_ran(execution: Execution, error: BaseException | None) -> bool:
    """Return True if a call was cancelled before it ran: by the program, or because it depends on a failed call."""
    if type(error) is TaskCancelledError:
        return not error.has_run or not is_own_error(execution, error)
    return error is not None and issubclass(type(error), COMPSsException) and not is_own_error(execution, error)


def gives_none(error: BaseException | None) -> bool:
    """Return True if waiting for a call with this error gives None, or the values that its task declares."""
    return type(error) is TaskCancelledError and error.gives_none


def note_cancelled(execution: Execution, error: BaseException | None) -> None:
    """Set `gives_none` in the error of a call whose group was cancelled."""
    if type(error) is TaskCancelledError and execution.group is not None and execution.group.is_cancelled:
        error.gives_none = True


def stand_in(version: Version, error: BaseException) -> object:
    """Return the value of a cancelled call: a declared value if the call itself failed, else None."""
    values = getattr(error, "values", ())
    own = getattr(error, "task_id", None) == version.execution.task_id
    return values[version.output] if own and version.output < len(values) else None
