"""`pycompss.api.api`."""

from __future__ import annotations

import logging
from typing import Any

from runmem.execution.wall_clock import WallClock
from runmem.graph.current import current_program
from runmem.graph.groups import TaskGroup
from runmem.graph.synchronise import barrier as compss_barrier
from runmem.graph.synchronise import barrier_group as compss_barrier_group
from runmem.graph.synchronise import cancel_group as compss_cancel_group
from runmem.graph.synchronise import delete_file as compss_delete_file
from runmem.graph.synchronise import delete_object
from runmem.graph.synchronise import file_exists as compss_file_exists
from runmem.graph.synchronise import open_file as compss_open
from runmem.graph.synchronise import wait_on as compss_wait_on
from runmem.graph.synchronise import wait_on_file as compss_wait_on_file
from runmem.standard_error import say

__all__ = [
    "TaskGroup", "barrier", "compss_add_logger", "compss_barrier", "compss_barrier_group", "compss_cancel_group",
    "compss_delete_file", "compss_delete_object", "compss_file_exists", "compss_free_resources",
    "compss_get_number_of_resources", "compss_open", "compss_request_resources", "compss_set_wall_clock",
    "compss_snapshot", "compss_start", "compss_stop", "compss_wait_on", "compss_wait_on_directory",
    "compss_wait_on_file",
]  # fmt: skip

compss_wait_on_directory = compss_wait_on_file
barrier = compss_barrier  # of old programs


def compss_start(log_level: str = "off", tracing: bool = False, interactive: bool = False, **_: object) -> None:
    """Do nothing: a program is started with `runmem`, and a notebook with `pycompss.interactive`."""


def compss_stop(code: int = 0, _hard_stop: bool = False) -> None:
    """Wait for all tasks, or cancel them if the code is not 0; the run itself ends with the program."""
    program = current_program()
    if code and program is not None:
        program.cancel_all()
    else:
        compss_barrier()


def compss_snapshot() -> None:
    """Wait for all tasks, so that their files are written."""
    compss_barrier()


def compss_delete_object(*objects: Any) -> Any:
    """Free what tasks have made of objects that the program needs no more; return whether tasks have used each.

    Several objects give a list of answers, and so does a list or tuple that no task was given as a whole: one for each
    object in it. The value of a future that is deleted cannot be used any more.
    """
    answers = [_delete(datum) for datum in objects]
    return answers[0] if len(answers) == 1 else answers


def _delete(datum: Any, around: frozenset[int] = frozenset()) -> Any:
    program = current_program()
    is_used = program is not None and program.is_used(datum)
    if isinstance(datum, (list, tuple)) and not is_used and id(datum) not in around:
        return [_delete(item, around | {id(datum)}) for item in datum]
    return delete_object(datum)


def compss_get_number_of_resources() -> int:
    """Return the number of nodes whose workers have joined the run, at least 1."""
    program = current_program()
    return 1 if program is None else program.number_of_nodes()


def compss_request_resources(num_resources: int, group_name: str | None = None) -> None:
    """Say that workers cannot be added from within the program."""
    say(f"runmem: compss_request_resources({num_resources}) has no effect: give more --workers at the start")


def compss_free_resources(num_resources: int, group_name: str | None = None) -> None:
    """Say that workers cannot be given back from within the program."""
    say(f"runmem: compss_free_resources({num_resources}) has no effect: the workers end with the program")


def compss_set_wall_clock(wall_clock_limit: float) -> None:
    """End the program after so many seconds from now."""
    if current_program() is not None:
        WallClock(float(wall_clock_limit))


def compss_add_logger(logger_name: str) -> None:
    """Let a logger write to standard error, unless it or one above it has a handler."""
    logger = logging.getLogger(logger_name)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
