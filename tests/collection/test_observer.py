from __future__ import annotations

import logging

import pytest

from runmem.collection.observer import Observer, Observers
from runmem.events import DataLost, RunEnded, TaskSubmitted


class Listens(Observer):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def task_submitted(self, event: TaskSubmitted) -> None:
        self.heard.append(event)


class Breaks(Observer):
    def task_submitted(self, event: TaskSubmitted) -> None:
        raise ZeroDivisionError("its own fault")


EVENT = TaskSubmitted(1, "f")


def test_an_observer_that_raises_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    listens = Listens()
    with caplog.at_level(logging.ERROR):
        Observers([Breaks(), listens]).task_submitted(EVENT)
    assert listens.heard == [EVENT]
    assert "Breaks.task_submitted failed" in caplog.text
    assert "its own fault" in caplog.text


def test_only_what_somebody_overrides_is_heard() -> None:
    observers = Observers([Listens()])
    assert observers.hears("task_submitted")
    assert not observers.hears("data_lost")
    observers.data_lost(DataLost("here", "why"))
    observers.run_ended(RunEnded(0))


def test_a_hook_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(AttributeError):
        Observers([]).task_vanished(EVENT)


def test_observers_hear_in_their_order() -> None:
    order: list[int] = []

    class Notes(Observer):
        def __init__(self, number: int) -> None:
            self.number = number

        def run_ended(self, event: RunEnded) -> None:
            order.append(self.number)

    Observers([Notes(1), Notes(2), Notes(3)]).run_ended(RunEnded(0))
    assert order == [1, 2, 3]
