from __future__ import annotations

from pathlib import Path

from runmem.collection.process_deaths import Kill
from runmem.deaths import Cause, Death
from runmem.errors import TaskKilledError
from runmem.events import TaskRecord
from runmem.execution.call_errors import explain_kill
from runmem.units import GIB, MIB

PAGE = Path(__file__).parents[2] / "docs" / "killed_tasks.md"


def test_the_page_shows_the_message_as_it_is() -> None:
    group = "the control group /sys/fs/cgroup/memory/job (cgroup v1)"
    words = f"the kernel's out-of-memory killer ended the worker (signal 9): {group} was at its limit of 700.0 MiB"
    death = Death(
        Cause.CGROUP_LIMIT, words, 9, limit_bytes=700 * MIB, limit_owner=group, growth_bytes_per_s=round(216.4 * MIB),
        node_free_bytes=round(20.8 * GIB), beside="app.neighbour (call 1) with 112.6 MiB",
    )  # fmt: skip
    record = TaskRecord(
        3, "app", "grow", "app.py", "vm", 13200, 1, 5.0, status="killed", base_bytes=round(97.2 * MIB),
        last_bytes=round(432.1 * MIB), limit_bytes=2 * GIB, argument_bytes={"data": 30 * MIB, "others": 18},
        death=death,
    )  # fmt: skip
    error = TaskKilledError("grow", 3)
    error.tries, error.tried = 2, "The last time it ran alone on its node."
    explain_kill(error, Kill(words, record))
    assert f"runmem.errors.TaskKilledError: {error}\n" in PAGE.read_text()
    assert (error.limit_bytes, error.is_for_memory) == (700 * MIB, True)


def test_the_page_lists_all_causes_and_all_values() -> None:
    page = PAGE.read_text()
    assert all(f"`{cause}`" in page for cause in Cause)
    assert all(f"`{name}`" in page for name in Death.__dataclass_fields__)
