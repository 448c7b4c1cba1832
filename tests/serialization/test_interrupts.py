"""What the code of a value raises is the value's; Ctrl-C and what signal handlers raise are the program's."""

from __future__ import annotations

import functools
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runmem.serialization.interrupts import is_interrupt


@contextmanager
def handling(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ask_to_end(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


class Ending:
    def __call__(self, number: int, frame: Any) -> None:
        ask_to_end(number, frame)

    def end(self, number: int, frame: Any) -> None:
        raise ValueError(number)


class Interrupted:
    """A value that a signal reaches while it is packed."""

    def __reduce__(self) -> Any:
        signal.raise_signal(signal.SIGINT)
        return int, (1,)


class Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        try:
            raise self.error
        except ValueError:
            raise


def raised(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "handler",
    [signal.default_int_handler, ask_to_end, Ending(), Ending().end, functools.partial(ask_to_end)],
    ids=["Ctrl-C", "function", "object", "method", "partial"],
)
def test_what_a_signal_raises_while_a_value_is_packed_is_an_interrupt(handler: Any) -> None:
    with handling(handler):
        error = raised(lambda: pickle.dumps([Interrupted()]))
        assert is_interrupt(error)
        assert not is_interrupt(raised(lambda: pickle.dumps([Raising(type(error)())])))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError(1)], ids=repr)
def test_what_a_class_raises_is_no_interrupt(error: BaseException) -> None:
    assert not is_interrupt(raised(lambda: pickle.dumps([Raising(error)])))


def test_an_endless_loop_in_a_value_can_be_interrupted() -> None:
    class Endless:
        def __reduce__(self) -> Any:
            while True:
                signals.set()

    signals = threading.Event()

    def interrupt() -> None:
        signals.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with handling(signal.default_int_handler):
        assert is_interrupt(raised(lambda: pickle.dumps(Endless())))
    thread.join()


def test_in_another_thread_nothing_is_an_interrupt() -> None:
    found = []

    def ask() -> None:
        try:
            ask_to_end(signal.SIGINT, None)
        except SystemExit as error:
            found.append(is_interrupt(error))

    with handling(ask_to_end):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found == [False]
