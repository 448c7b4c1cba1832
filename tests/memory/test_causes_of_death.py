from __future__ import annotations

import signal
from typing import NamedTuple

import pytest

from runmem.deaths import Cause
from runmem.memory.causes_of_death import death_by_signal, death_in_log, in_limited_address_space
from runmem.memory.kernel_kills import KernelKill
from runmem.units import MIB


class Counters(NamedTuple):
    """The kernel's counters, with the kill that they show."""

    kill: KernelKill | None = None
    are_counted: bool = True

    def last(self) -> KernelKill | None:
        return self.kill


FULL = KernelKill(Cause.CGROUP_LIMIT, 300 * MIB, "the control group /sys/fs/cgroup/job (cgroup v2)")


@pytest.mark.parametrize(
    ("message", "counters", "pid", "cause", "words"),
    [
        ("Worker process 123 was killed by signal 9", Counters(are_counted=False), 123, Cause.SIGKILL,
         "the worker process was killed by signal 9"),
        ("Worker process 123 was killed by signal 9", Counters(), 123, Cause.SIGKILL,
         "the worker process was killed by signal 9, and not by the kernel for lack of memory: somebody sent it"),
        ("Worker process 123 was killed by signal 9", Counters(FULL), 123, Cause.CGROUP_LIMIT,
         "the kernel's out-of-memory killer ended the worker (signal 9): the control group /sys/fs/cgroup/job "
         "(cgroup v2) was at its limit of 300.0 MiB"),
        ("Worker process 123 was killed by signal 9", Counters(KernelKill(Cause.NODE_MEMORY)), 123, Cause.NODE_MEMORY,
         "the kernel's out-of-memory killer ended the worker (signal 9): the node had no free memory left"),
        ("Worker process 123 was killed by signal 11", Counters(FULL), 123, Cause.CRASH,
         "the worker process was killed by signal 11 (a segmentation fault)"),
        ("Worker process 123 was killed by signal 6", Counters(), 123, Cause.ABORT,
         "the worker process was killed by signal 6 (abort)"),
        ("Worker process 123 was killed by signal 15", Counters(), 123, Cause.SIGNAL,
         "the worker process was killed by signal 15 (SIGTERM)"),
        ("Worker process 123 was killed by signal 99", Counters(), 123, Cause.SIGNAL,
         "the worker process was killed by signal 99"),
        ("Worker process 7 exited with status 3", Counters(), 7, Cause.EXIT,
         "the worker process exited with status 3: the task, or a library that it calls, has ended it"),
        ("Worker tcp://127.0.0.1:4 (pid=55) exceeded 95% memory budget. Restarting...", Counters(), 55,
         Cause.NANNY_LIMIT, "Dask's nanny ended the worker: it used more than 95 % of its memory limit of 200.0 MiB"),
    ],
)  # fmt: skip
def test_the_log_of_the_nanny_shows_why_a_worker_died(
    message: str, counters: Counters, pid: int, cause: Cause, words: str
) -> None:
    found = death_in_log(message, counters, lambda pid: 200 * MIB)
    assert found is not None
    assert (found[0], found[1].cause, found[1].words) == (pid, cause, words)
    assert found[1].is_for_memory == (cause in (Cause.CGROUP_LIMIT, Cause.NODE_MEMORY, Cause.NANNY_LIMIT))


@pytest.mark.parametrize("message", ["Restarting worker", "", "Worker process died unexpectedly"])
def test_other_lines_of_the_log_are_no_deaths(message: str) -> None:
    assert death_in_log(message, Counters(FULL)) is None


def test_a_limited_address_space_is_named_where_an_allocation_may_have_failed() -> None:
    crash = death_by_signal(signal.SIGABRT, Counters())
    assert in_limited_address_space(crash, None) is crash
    limited = in_limited_address_space(crash, 900 * MIB)
    assert limited.words.endswith(
        "its address space was limited to 900.0 MiB (`ulimit -v`), so an allocation may have failed"
    )
    assert limited.limit_bytes == 900 * MIB
    terminated = death_by_signal(signal.SIGTERM, Counters())
    assert in_limited_address_space(terminated, 900 * MIB) is terminated
