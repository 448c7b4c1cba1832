"""What a person reads of a killed task: on the terminal while the program runs, in its error and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from runmem.collection.observer import Observer
from runmem.deaths import Cause, Death
from runmem.errors import TaskKilledError
from runmem.events import TaskKilled, TaskRecord
from runmem.standard_error import say
from runmem.units import format_bytes

__all__ = ["DeathReports", "advice", "facts_of", "name_of", "set_facts", "with_tasks_in_process"]

_MOST_REPORTED = 20
_MOST_NAMED = 5
_NO_DEATH = Death.unknown("the cause is unknown")


class DeathReports(Observer):
    """Prints each death of a task at once: all facts for the first of a call, one line for the others.

    Parameters
    ----------
    stream : TextIO or None
        Default: standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._calls: set[tuple[int, str | None]] = set()
        self._reported = 0

    def task_killed(self, event: TaskKilled) -> None:
        """Print what happened, unless very many tasks have been killed."""
        record = event.record
        self._reported += 1
        if self._reported > _MOST_REPORTED:
            if self._reported == _MOST_REPORTED + 1:
                say("runmem: more tasks are killed; the report at the end lists them", self._stream)
            return
        call = record.task_id, record.key
        again = f" again (attempt {record.attempt})" if call in self._calls else ""
        say(f"runmem: {_called(record)} was killed{again} on node {record.node}: {record.reason}", self._stream)
        if call not in self._calls:
            self._calls.add(call)
            say(f"runmem:   {', '.join(facts_of(record))}", self._stream)


def _called(record: TaskRecord) -> str:
    return name_of(record) if record.key is not None else f"task {name_of(record)}"


def name_of(record: TaskRecord) -> str:
    """Return the name of a task in a sentence."""
    return f"{record.target} (call {record.task_id})" if record.key is None else f"the Dask task {record.key}"


def with_tasks_in_process(death: Death, others: Sequence[TaskRecord]) -> Death:
    """Return the death of a process that ran other tasks too, in other threads."""
    if not others:
        return death
    here = f"{' and '.join(map(name_of, others[:_MOST_NAMED]))} in the same process"
    if more := len(others) - _MOST_NAMED:
        here += f" and {more} more" if more > 0 else ""
    return replace(death, beside=f"{here}, {death.beside}" if death.beside else here)


def facts_of(record: TaskRecord) -> list[str]:
    """Return the facts about the death of a task, in the order of their use."""
    death = record.death or _NO_DEATH
    limit = f" of the worker's {format_bytes(record.limit_bytes)}" if record.limit_bytes else ""
    is_last = record.last_bytes is not None
    size = format_bytes(record.last_bytes if is_last else record.peak_bytes)
    found = [f"{'last reading' if is_last else 'peak'} {size}{limit}"]
    if (growth := death.growth_bytes_per_s) is not None:
        found.append(f"{'growing' if growth >= 0 else 'shrinking'} by {format_bytes(abs(growth))}/s")
    if record.base_bytes is not None:
        found.append(f"{format_bytes(record.base_bytes)} at its start")
    if record.children_peak_bytes is not None:
        command = f" ({record.children_command})" if record.children_command else ""
        found.append(f"{format_bytes(record.children_peak_bytes)} in its child processes{command}")
    if sizes := _sizes_of_arguments(record):
        found.append(f"arguments of {sizes}")
    if death.node_free_bytes is not None:
        found.append(f"{format_bytes(death.node_free_bytes)} free on the node")
    if death.beside is not None:
        found.append(f"beside it {death.beside}" if death.beside else "no other task on the node")
    if death.missing is not None:
        found.append(death.missing)
    return found


def _sizes_of_arguments(record: TaskRecord) -> str | None:
    """Return the size of the arguments together, with the largest by name; None if it is not known."""
    given = {name: int(size) for name, size in (record.argument_bytes or {}).items() if isinstance(size, (int, float))}
    if not given:
        return format_bytes(record.input_bytes) if record.input_bytes else None
    total = format_bytes(sum(given.values()))
    largest = sorted(given.items(), key=lambda item: item[1], reverse=True)
    named = [f"{name} {format_bytes(size)}" for name, size in largest[:3] if name != "others"]
    return f"{total} ({', '.join(named)})" if named else total


def set_facts(error: TaskKilledError, death: Death) -> None:
    """Set the attributes of an error that have the facts about a death."""
    error.cause, error.kind, error.is_for_memory = death.words, str(death.cause), death.is_for_memory
    error.limit_bytes, error.limit_owner = death.limit_bytes, death.limit_owner
    error.growth_bytes_per_s, error.node_free_bytes = death.growth_bytes_per_s, death.node_free_bytes
    error.beside, error.missing = death.beside, death.missing


def advice(death: Death | None) -> str:
    """Return what to do about a task whose process died, as sentences; None: nothing is known of its death."""
    death = death or _NO_DEATH
    if death.cause in (Cause.CRASH, Cause.ABORT) and death.limit_bytes is not None:
        return _ADVICE[Cause.ADDRESS_SPACE]
    if death.cause is Cause.TIME_LIMIT and death.limit_owner is not None:
        return "Ask for more time for the job (--time), or make the tasks shorter."
    limit = format_bytes(death.limit_bytes) if death.limit_bytes is not None else "so much"
    return _ADVICE.get(death.cause, _MORE_MEMORY).format(limit=limit)


_MORE_MEMORY = "If it needs more memory, raise --worker_memory or use fewer --workers."
_COMPILED_CODE = (
    "This comes from compiled code as a rule, and is no matter of memory: PYTHONFAULTHANDLER=1 in the environment "
    "shows on standard error what Python ran."
)
_ADVICE = {
    Cause.NANNY_LIMIT: "It needs more than {limit}: raise --worker_memory, or use fewer --workers.",
    Cause.CGROUP_LIMIT: "All processes of this group together may use {limit}: give the container or session more "
    "memory, or use fewer --workers, so that fewer tasks run at a time.",
    Cause.SLURM_LIMIT: "Ask for more memory for the job (--mem; with --cluster slurm, --worker_memory), or use fewer "
    "workers on a node.",
    Cause.NODE_MEMORY: "Use fewer --workers, so that fewer tasks run at a time, or a node with more memory.",
    Cause.ADDRESS_SPACE: "Raise the limit on the address space of the workers first (`ulimit -v`).",
    Cause.SIGKILL: "If you did not end it, the logs of the node say who did (a batch system, systemd-oomd). "
    + _MORE_MEMORY,
    Cause.NODE_GONE: "Look whether the node still runs, and into the log of its job: batch systems end jobs that use "
    "more memory or time than they asked for.",
    Cause.EXIT: "Let it return, or raise an exception, in place of ending its process (os._exit, exit in C).",
    Cause.CRASH: _COMPILED_CODE,
    Cause.ABORT: _COMPILED_CODE,
    Cause.SIGNAL: "Somebody, or the task itself, has sent this signal.",
}
