from __future__ import annotations

import logging

import pytest

from runmem.events import DataLost, TaskSubmitted
from runmem.execution.observer import Observer, Observers


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
        Observers([Breaks(), listens]).tell("task_submitted", EVENT)
    assert listens.heard == [EVENT]
    assert "Breaks.task_submitted failed" in caplog.text
    assert "its own fault" in caplog.text


def test_only_what_somebody_overrides_is_heard() -> None:
    observers = Observers([Listens()])
    assert observers.hears("task_submitted")
    assert not observers.hears("data_lost")
    observers.tell("data_lost", DataLost("here", "why"))
    observers.tell("run_ended")


def test_a_hook_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Observers([]).tell("task_vanished", EVENT)


def test_observers_hear_in_their_order() -> None:
    order: list[int] = []

    class Notes(Observer):
        def __init__(self, number: int) -> None:
            self.number = number

        def run_ended(self) -> None:
            order.append(self.number)

    Observers([Notes(1), Notes(2), Notes(3)]).tell("run_ended")
    assert order == [1, 2, 3]
