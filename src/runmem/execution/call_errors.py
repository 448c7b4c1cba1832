"""Errors of calls that failed in their task, with their worker, on the way back, or through runmem itself."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

import dask
from distributed.scheduler import KilledWorker

from runmem.errors import ResultError, RunmemError, TaskKilledError, TaskTimeoutError
from runmem.execution.call_state import Bundle, state_of
from runmem.graph.call import Execution
from runmem.serialization.task_error import set_root_task
from runmem.worker.bundle_runner import BundleFailed
from runmem.worker.isolation.time_limit import time_is_up

__all__ = [
    "attempts", "error_of", "error_of_call", "explain_kill", "internal_error", "timeout_error", "unfetchable",
]  # fmt: skip

_CRASHES = {str(int(number)): text for number, text in (
    (signal.SIGSEGV, "a crash (segmentation fault)"), (signal.SIGBUS, "a crash (bus error)"),
    (signal.SIGABRT, "a crash (abort)"), (signal.SIGFPE, "a crash (arithmetic error)"),
    (signal.SIGILL, "a crash (illegal instruction)"),
)}  # fmt: skip


def internal_error(execution: Execution, error: Exception) -> RunmemError:
    """Return the error of a call that failed through a mistake of runmem itself."""
    mistake = RunmemError(
        f"runmem itself made a mistake with {execution.name} (call {execution.task_id}): {type(error).__name__}: "
        f"{error}. Calls that have nothing to do with it go on. Please report it, with the traceback."
    )
    mistake.__cause__ = error
    set_root_task(mistake, execution.task_id)
    return mistake


def error_of(bundle: Bundle) -> BaseException | None:
    """Return the error of a bundle's Dask task; None if Dask has begun it again meanwhile."""
    assert bundle.future is not None
    try:
        error: BaseException | None = bundle.future.exception(timeout="5 s")
    except TimeoutError:
        return None
    return error


def unfetchable(executions: Sequence[Execution], error: Exception) -> ResultError:
    """Return the error of results that cannot be fetched."""
    names = ", ".join(dict.fromkeys(execution.name for execution in executions))
    why = str(error).strip().splitlines() or [""]
    return ResultError(
        f"a result of {names} cannot be brought to the program: {why[0]} ({why[-1]}). A task must return what can be "
        "pickled: return the data that the value is made from, or use the value in the same task."
    )


def attempts() -> int:
    """Return the number of times that Dask tries a task whose worker dies."""
    return int(dask.config.get("distributed.scheduler.allowed-failures", 3)) + 1


def error_of_call(execution: Execution, error: BaseException) -> BaseException:
    """Return the error of a call, given that of its Dask task: its own, or else that of another call in the bundle."""
    if isinstance(error, KilledWorker):
        return TaskKilledError(execution.name, execution.task_id)
    if not isinstance(error, BundleFailed):
        return error
    errors = {position: value for position, (good, value) in enumerate(error.outcomes) if not good}
    state = state_of(execution)
    position = state.position or 0
    is_own = state.bundle is not None and error.key == state.bundle.key and position in errors
    loaded: BaseException = errors[position if is_own else min(errors)].load()
    return loaded


def timeout_error(execution: Execution, limit_s: float, stack: str | None, where: str) -> TaskTimeoutError:
    """Return the error of a call at its time limit."""
    at = f", at\n{stack}\n" if stack else ". "
    error = TaskTimeoutError(
        f"task {execution.name} (call {execution.task_id}): {time_is_up(limit_s)}. It was running on {where}{at}"
        "Give it more time with @task(time_out=SECONDS) or --task_timeout=SECONDS."
    )
    error.name, error.task_id, error.limit_s, error.stack = execution.name, execution.task_id, limit_s, stack
    set_root_task(error, execution.task_id)
    return error


def explain_kill(error: TaskKilledError, reason: str | None) -> None:
    """Complete the error of a killed task with the reason, if it is known."""
    cause = (
        f"{reason[0].upper()}{reason[1:]}."
        if reason
        else "With --python_memory_profile its last memory reading would be known."
    )
    error.args = (
        f"task {error.name} (call {error.task_id}): its worker process died each of the {attempts()} times it was "
        f"tried. {cause} {_advice(reason)}",
    )
    error.task_id = None


def _advice(reason: str | None) -> str:
    """Return advice about a task whose worker died: of signal 9, or for an unknown reason, memory may be the cause."""
    died = re.search(r"killed by signal (\d+)|exited with status (\d+)", reason or "")
    if died is None or died[1] == "9":
        return "If it needs more memory, raise --worker_memory or use fewer --workers."
    if died[2] is not None:
        return "Let it return, or raise an exception, in place of ending its process (os._exit, exit in C)."
    if died[1] in _CRASHES:
        return (
            f"This is {_CRASHES[died[1]]}, in compiled code as a rule, and no matter of memory: "
            "PYTHONFAULTHANDLER=1 in the environment shows on standard error what Python ran."
        )
    return "Somebody, or the task itself, has sent this signal."
