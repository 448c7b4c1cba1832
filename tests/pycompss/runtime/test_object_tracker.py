"""What test programs of PyCOMPSs read of its runtime, and how they end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from runmem import IN_DELETE, INOUT, delete_object, session, task, wait_on
from runmem.errors import TaskCancelledError
from runmem.pycompss.api.api import compss_stop
from runmem.pycompss.runtime.management.object_tracker import OT
from runmem.pycompss.tests.outlog import create_logger


@task(values=INOUT)
def append(values, x):
    values.append(x)


@task(values=IN_DELETE, returns=1)
def last_of(values):
    return values[-1]


@task(returns=1)
def first_of(values):
    return values[0]


def test_objects_are_known_from_their_first_use_to_their_deletion(tmp_path: Path, monkeypatch: Any) -> None:
    written, read, dropped = [1], [2], [3]
    assert OT.get_object_id(written) == ""
    assert not OT.pending_to_synchronize
    monkeypatch.chdir(tmp_path)
    with session(sequential=True, summary=False):
        append(written, 4)
        results = first_of(read), last_of(dropped)
        ids = [OT.get_object_id(each) for each in (written, read, dropped)]
        assert [identity != "" for identity in ids] == [True, True, False]
        assert [identity in OT.pending_to_synchronize for identity in ids] == [True, False, False]
        assert wait_on(results) == (2, 3)
        delete_object(written, read)
        assert [OT.get_object_id(each) for each in (written, read)] == ["", ""]
        assert not OT.pending_to_synchronize


def test_the_logger_writes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    create_logger().handlers[0].setStream(__import__("sys").stdout)  # type: ignore[attr-defined]
    create_logger().debug("seen %d", 4)
    assert capsys.readouterr().out == "seen 4\n"


@task(returns=1)
def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)


def test_a_stop_with_a_code_cancels_the_tasks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with session(workers=1, summary=False):
        futures = [wait_for(str(tmp_path / "never")) for _ in range(3)]
        compss_stop(1)
        for future in futures:
            with pytest.raises(TaskCancelledError):
                wait_on(future)
        compss_stop()
