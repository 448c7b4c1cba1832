from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import runmem
from runmem import task, wait_on
from runmem.collection.observer import Observer
from runmem.errors import ArgumentError, FutureGoneError, SettingError
from runmem.events import ClusterStarted, RunEnded, TaskEnded
from runmem.graph.future import Future
from runmem.store.run import read_run
from runmem.worker.probe import Probe


def _tasks() -> tuple[Any, Any]:
    @task(returns=1)
    def double(x):
        return 2 * x

    @task(returns=1)
    def fail():
        raise LookupError("unseen")

    return double, fail


double, fail = _tasks()


@pytest.mark.slow
def test_sessions_follow_each_other(session: Callable[..., Any]) -> None:
    roots, futures = [], []
    for number in range(2):
        with session() as run:
            assert wait_on(future := double(number)) == 2 * number
            futures.append(future)
            for use in (lambda: wait_on(futures[0]), lambda: double(futures[0]), lambda: double([futures[0]])):
                if number:
                    with pytest.raises(ArgumentError, match=r"the value of .*double \(call 1\) is gone"):
                        use()
        roots.append(run.directory.root)
        assert [record.task_id for record in read_run(roots[-1]).records] == [1]
        assert double(4) == 8  # a plain call again
    assert [root.name for root in roots] == ["suite_01", "suite_02"]


def test_an_error_that_nobody_has_seen_is_raised_at_the_end(session: Callable[..., Any]) -> None:
    with pytest.raises(LookupError, match="unseen"), session() as run:
        fail()
    assert json.loads(run.directory.run_json.read_text())["exit_code"] == 1


def test_an_error_of_the_program_is_not_replaced_by_one_of_a_task(session: Callable[..., Any]) -> None:
    def program() -> None:
        with session():
            fail()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program()


def test_the_end_of_a_session_leaves_no_process(session: Callable[..., Any]) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with session():
        wait_on(double(1))
        during = {child.pid for child in psutil.Process().children(recursive=True)}
        assert len(during - before) >= 2
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child.cmdline() for child in left if "resource_tracker" not in " ".join(child.cmdline())] == []


def test_a_session_without_tasks_starts_no_cluster(session: Callable[..., Any]) -> None:
    with session() as run:
        pass
    read = read_run(run.directory.root)
    assert read.records == []
    assert read.provenance["workers"] == 0
    assert read.provenance["exit_code"] == 0


def test_a_second_session_inside_the_first_is_refused(session: Callable[..., Any]) -> None:
    with session(), pytest.raises(SettingError, match="a run is under way in this process already"), session():
        pass


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingError, match="unknown setting 'wrokers'"):
        runmem.session(wrokers=2)


def test_a_future_of_an_ended_session_says_so(session: Callable[..., Any]) -> None:
    with session():
        future = double(1)
    assert isinstance(future, Future)
    for use in (lambda: wait_on(future), lambda: wait_on({"future": [future]})):
        with pytest.raises(FutureGoneError, match="get the values with wait_on before the end of a session"):
            use()


@pytest.mark.parametrize(
    ("argv0", "told", "name"),
    [
        ("/a/analysis.py", None, "analysis"),
        ("/usr/bin/pytest", None, "session"),
        ("/x/ipykernel_launcher.py", None, "notebook"),
        ("/x/ipykernel_launcher.py", "/home/me/My study.ipynb", "My_study"),
        ("/x/ipykernel_launcher.py", "6f1c-console", "notebook"),
        ("/x/colab_kernel_launcher.py", None, "notebook"),
        ("", None, "session"),
    ],
)
def test_a_run_is_called_by_its_script_or_notebook(
    monkeypatch: pytest.MonkeyPatch, argv0: str, told: str | None, name: str
) -> None:
    monkeypatch.setattr("sys.argv", [argv0])
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if told is not None:
        monkeypatch.setenv("JPY_SESSION_NAME", told)
    assert runmem.session().app == name


def test_a_setting_that_there_is_not_is_answered_with_the_names_that_can_be_written() -> None:
    with pytest.raises(SettingError) as refused:
        runmem.session(worker_memroy="2GiB")
    assert "worker_memory, " in str(refused.value)
    assert "_bytes" not in str(refused.value)


def test_observers_of_the_users_own_hear_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Notes(Observer):
        def __init__(self) -> None:
            self.heard: list[object] = []

        def cluster_started(self, event: ClusterStarted) -> None:
            self.heard.append(event.workers)

        def task_ended(self, event: TaskEnded) -> None:
            self.heard.append((event.task_id, event.status))

        def run_ended(self, event: RunEnded) -> None:
            self.heard.append(event)

    @task(returns=1)
    def double(x):
        return 2 * x

    monkeypatch.chdir(tmp_path)
    notes = Notes()
    with runmem.session(workers=1, observers=[notes]):
        assert wait_on(double(2)) == 4
    assert notes.heard == [1, (1, "finished"), RunEnded(0)]
    with pytest.raises(SettingError, match=r"session\(observers=\): 'no.module:A' cannot be used"):
        runmem.session(observers=["no.module:A"])


class Counts(Probe):
    def __init__(self, first: int = 0) -> None:
        self.number = first

    def start(self) -> None:
        self.number += 1

    def stop(self, started: None) -> dict[str, Any]:
        return {"number": self.number, "below": -1.5, "what": {1}, "text": "\u00e4"}


class Breaks(Probe):
    def stop(self, started: Any) -> dict[str, Any]:
        raise LookupError("no such counter")


def test_what_probes_of_the_users_own_measure_stands_in_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with runmem.session(
        workers=1, python_memory_profile=True, probes=[Counts(10), f"{__name__}:Breaks", "runmem.worker.probe:Probe"]
    ) as run:
        assert wait_on([double(number) for number in range(3)]) == [0, 2, 4]
    records = read_run(run.directory.root).records
    assert sorted(record.extra["number"] for record in records) == [11, 12, 13]
    for record in records:
        assert record.extra["below"] == -1.5
        assert record.extra["what"] == "not kept: set"
        assert record.extra["text"] == "\u00e4"
        assert record.extra["Breaks"] == "Breaks failed: no such counter"
        assert record.method == "hwm"


def test_probes_that_cannot_be_used_are_refused_before_the_run() -> None:
    with pytest.raises(SettingError, match="it is not a runmem.worker.probe.Probe"):
        runmem.session(python_memory_profile=True, probes=[int])
    with pytest.raises(SettingError, match="need --python_memory_profile"):
        runmem.session(probes=[Counts])
    probe = Counts()
    probe.lock = threading.Lock()
    with pytest.raises(SettingError, match="cannot be sent to a worker"):
        runmem.session(python_memory_profile=True, probes=[probe])
