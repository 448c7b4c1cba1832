"""`--memory_aware`: calls of a run start only where what they are expected to need is free."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runmem import task, wait_on
from runmem.errors import ArgumentError
from runmem.events import TaskRecord
from runmem.units import MIB

pytestmark = pytest.mark.slow


def _define() -> Any:
    @task(returns=1)
    def hold(mib, number):
        data = bytearray(mib * 1024**2)
        time.sleep(0.2)
        return len(data) + number

    @task(returns=1)
    def meet(mib, folder, number):
        """Return how many calls were under way at once; each waits for another one, but not for ever."""
        data = bytearray(mib * 1024**2)
        (Path(folder) / str(number)).write_text("")
        for _ in range(600):
            if (together := len(list(Path(folder).iterdir()))) > 1:
                break
            time.sleep(0.05)
        return together if data else 0

    declared = task(returns=1, memory="200MiB")(meet.function)

    @task(returns=1, memory="3GiB")
    def huge(number):
        return number

    @task(returns=1)
    def small(number):
        return number

    return hold, meet, declared, huge, small


hold, meet, declared, huge, small = _define()


def most_at_once(records: list[TaskRecord]) -> int:
    return max(sum(one.start_s <= other.start_s < (one.end_s or 0) for one in records) for other in records)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "runmem"]


def test_calls_that_would_not_fit_together_run_one_after_the_other(
    session: Callable[..., Any], records_of: Callable[..., list[TaskRecord]], tmp_path: Path
) -> None:
    """Two workers of 300 MiB: one may use 600 MiB, of which the workers have some 150 MiB in use."""
    with session(workers=2, worker_memory="300MiB", memory_aware=True) as run:
        assert wait_on([small(number) for number in range(300)]) == list(range(300))
        assert wait_on([hold(300, number) for number in range(4)]) == [300 * MIB + number for number in range(4)]
        (tmp_path / "declared").mkdir()
        assert wait_on([declared(150, tmp_path / "declared", number) for number in range(2)]) == [2, 2]
        assert records_of(run, "hold")[0].limit_bytes == 600 * MIB
        held = records_of(run, "hold")
        assert (len(held), most_at_once(held), {record.status for record in held}) == (4, 1, {"finished"})
        with pytest.raises(
            ArgumentError, match=r"huge \(.*\): memory=3.0 GiB in @task is more than the largest worker"
        ):
            huge(1)
        assert wait_on(small(huge.function(2))) == 2
        last = [hold(10, 0), *(small(hold(450, number)) for number in range(3))]
        assert len(wait_on(last)) == 4, "calls that fit beside nothing run one after the other"


def test_an_earlier_run_says_what_calls_need(
    session: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with session(python_memory_profile=True) as run:
        assert wait_on([meet(150, tmp_path / "first", number) for number in range(2)]) == [2, 2]
    caplog.set_level(logging.WARNING, "runmem")
    with session(worker_memory="300MiB", memory_from=run.directory.root):
        together = wait_on([meet(150, tmp_path / "second", number) for number in range(2)])
        assert together == [2, 2], "the first call need not be measured"
        assert not said(caplog)
        wait_on(small(1))
        (text,) = said(caplog)
        assert re.search(r"has no measurement of task _define.small \(it has _define.meet\): calls of such", text)


def test_a_call_that_is_expected_to_need_more_than_there_is_runs_alone(
    session: Callable[..., Any], records_of: Callable[..., list[TaskRecord]], caplog: pytest.LogCaptureFixture
) -> None:
    with session(worker_memory="2GiB", python_memory_profile=True) as run:
        wait_on(hold(700, 0))
    with session(worker_memory="300MiB", memory_from=run.directory.root) as later:
        results = [hold(1, number) for number in range(3)]
        assert wait_on([*results, small(0)]) == [MIB, MIB + 1, MIB + 2, 0]
        assert most_at_once(records_of(later, "hold")) == 1
    (text,) = [text for text in said(caplog) if "alone" in text]
    assert re.search(r"is expected to need 7\d\d\.\d MiB, and the largest worker may use 600.0 MiB", text)
