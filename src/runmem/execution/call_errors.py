"""Errors of calls that failed in their task, with their worker, on the way back, or through runmem itself."""

from __future__ import annotations

from collections.abc import Sequence

import dask
from distributed.scheduler import KilledWorker

from runmem.collection.killed_tasks import advice, facts_of, set_facts
from runmem.collection.process_deaths import Kill
from runmem.errors import ResultError, RunmemError, TaskKilledError, TaskTimeoutError
from runmem.execution.call_state import Bundle, state_of
from runmem.graph.call import Execution
from runmem.serialization.task_error import set_root_task
from runmem.worker.isolation.time_limit import time_is_up
from runmem.worker.packed_call import BundleFailed

__all__ = [
    "attempts", "error_of", "error_of_call", "explain_kill", "internal_error", "timeout_error", "unfetchable",
]  # fmt: skip


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


def explain_kill(error: TaskKilledError, kill: Kill | None) -> None:
    """Complete the error of a killed task with what is known of its death."""
    record = None if kill is None else kill.record
    death = None if kill is None else kill.death if record is None else record.death
    tries = attempts() if error.tries is None else error.tries
    each = f" each of the {tries} times it was tried" if tries > 1 else ""
    text = f"task {error.name} (call {error.task_id}): its worker process died{each}. "
    text += f"{error.tried} " if error.tried else ""
    if kill is None:
        text += "With --python_memory_profile its last memory reading would be known. "
    else:
        text += f"{kill.text[0].upper()}{kill.text[1:]}."
        facts = [f"on node {record.node}, process {record.pid}", *facts_of(record)] if record is not None else []
        text += "".join(f"\n    {fact}" for fact in facts) + ("\n" if facts else " ")
    error.args = (text + advice(death),)
    error.task_id = None
    if record is not None:
        error.node, error.pid, error.last_bytes = record.node, record.pid, record.last_bytes
        error.argument_bytes = {name: int(size or 0) for name, size in (record.argument_bytes or {}).items()}
    if death is not None:
        set_facts(error, death)
