from __future__ import annotations

import io
import re
import sys

import pytest

from runmem.collection.observer import Observer
from runmem.dashboard.terminal import LiveView, PlainView, terminal_view
from runmem.events import ClusterStarted, NodeSampled, TaskEnded, TasksRunning, TaskSubmitted
from runmem.units import MIB


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen() -> Terminal:
    return Terminal()


@pytest.fixture
def view(screen):
    view = LiveView(screen)
    yield view
    view.close()


def submit(view: LiveView, count: int) -> None:
    for number in range(count):
        view.task_submitted(TaskSubmitted(number + 1, "f"))


def test_in_a_pipe_the_view_is_plain():
    assert type(terminal_view(io.StringIO())) is PlainView


def test_on_a_terminal_without_control_the_view_is_plain(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert type(terminal_view(Terminal())) is PlainView


def test_on_a_terminal_the_view_is_live_and_gives_the_streams_back(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    view = terminal_view(screen)
    assert type(view) is LiveView
    assert sys.stdout is not screen
    view.close()
    assert sys.stdout is screen


def test_a_stream_in_a_pipe_is_let_alone(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    view = LiveView(Terminal())
    assert sys.stdout is pipe
    view.close()


def test_a_stream_that_the_program_put_in_place_stays(monkeypatch, screen):
    monkeypatch.setattr(sys, "stdout", screen)
    view = LiveView(screen)
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    view.close()
    assert sys.stdout is mine


def test_every_hook_is_one_that_observers_have():
    hooks = {name for name in vars(Observer) if not name.startswith("_")}
    assert {name for name in vars(LiveView) if not name.startswith("_")} - hooks == {"line", "close"}


@pytest.mark.parametrize(
    ("dashboard", "workers", "said"),
    [
        ("http://127.0.0.1:1/status", 2, "runmem: 2 workers; Dask dashboard: http://127.0.0.1:1/status\n"),
        (None, 1, "runmem: 1 worker\n"),
    ],
)
def test_workers_and_dashboard_are_told(dashboard, workers, said):
    stream = io.StringIO()
    PlainView(stream).cluster_started(ClusterStarted(dashboard, workers))
    assert stream.getvalue() == said


def test_the_line_counts_tasks(view):
    submit(view, 5)
    view.task_ended(TaskEnded(1, "f", "finished"))
    view.task_ended(TaskEnded(2, "f", "finished"))
    assert view.line() == "runmem: workers are starting, 2 done, 3 to do"
    view.cluster_started(ClusterStarted(None, 2))
    assert view.line() == "runmem: 2 done, 3 to do"
    view.task_ended(TaskEnded(3, "f", "failed"))
    view.tasks_running(TasksRunning(2))
    assert view.line() == "runmem: 2 done, 2 running, 0 to do, 1 failed"


def test_no_more_run_than_are_left(view):
    submit(view, 1)
    view.tasks_running(TasksRunning(4))
    assert "1 running, 0 to do" in view.line()


def test_what_runs_is_not_to_do_as_well(view):
    submit(view, 23)
    view.tasks_running(TasksRunning(2))
    assert "0 done, 2 running, 21 to do" in view.line()


def test_the_highest_memory_is_that_of_the_node_that_had_it(view):
    for node, size in (("a", 3 * MIB), ("b", 7 * MIB), ("a", 5 * MIB)):
        view.node_sampled(NodeSampled(node, 1.0, size))
    assert view.line().endswith("highest node memory 7.0 MiB (b)")


def test_a_line_appears_with_the_first_task_and_is_gone_at_the_end(view, screen):
    assert screen.getvalue() == ""
    submit(view, 3)
    view.close()
    shown = screen.getvalue()
    assert re.search(r"runmem: workers are starting, 0 done, \d to do", shown)
    assert re.search(r"\r\x1b\[K\Z", shown)
