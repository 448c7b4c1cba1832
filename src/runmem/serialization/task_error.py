"""The exception of a task on its way to the program.

It reaches the program as itself, so that `except MyError` works, also when its class was defined in the program, takes
other arguments than `Exception` does, or holds something that cannot be pickled. Dask alone would cut a long message
and drop the notes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from runmem.errors import RunmemError
from runmem.serialization.references import dumps, loads

__all__ = ["RemoteError", "PackedError", "root_task", "set_root_task"]

_ROOT = "root_task_id"


class RemoteError(RunmemError):
    """An exception of a task that cannot be pickled in any way: its type and message as text."""


class PackedError(NamedTuple):
    """A pickled exception, and what is said of it where it cannot be unpickled.

    Attributes
    ----------
    data : bytes or None
        Pickle of the exception; None: it has none.
    text : str
        Type and message.
    notes : tuple of str
    root : int or None
        See `root_task`.
    cause : PackedError or None
        What it was raised from; None also where `data` has it.
    """

    data: bytes | None
    text: str
    notes: tuple[str, ...]
    root: int | None
    cause: PackedError | None = None

    @classmethod
    def of(cls, error: BaseException, seen: frozenset[int] = frozenset()) -> PackedError:
        """Pack an exception; its traceback, which a note has as text, is dropped. `seen`: what it is a cause of."""
        data, has_cause = _pickled(error.with_traceback(None))
        cause, seen = error.__cause__, seen | {id(error)}
        return cls(
            data,
            f"{type(error).__name__}: {error}",
            tuple(getattr(error, "__notes__", ())),
            root_task(error),
            None if has_cause or cause is None or id(cause) in seen else cls.of(cause, seen),
        )

    def load(self) -> BaseException:
        """Return the exception, or a `RemoteError` that tells the same."""
        error = self._itself()
        if self.cause is not None:
            error.__cause__ = self.cause.load()
        return error

    def _itself(self) -> BaseException:
        if self.data is not None:
            try:
                error = loads(self.data)
            except Exception:  # its class is known on the worker only
                pass
            else:
                return error if isinstance(error, BaseException) else RemoteError(self.text)
        stand_in = RemoteError(self.text)
        for note in self.notes:
            stand_in.add_note(note)
        set_root_task(stand_in, self.root)
        return stand_in


def root_task(error: BaseException) -> int | None:
    """Return the number of the call that raised `error` first; calls that depend on it fail with the same error."""
    number: int | None = getattr(error, _ROOT, None)
    return number


def set_root_task(error: BaseException, task_id: int | None) -> None:
    """Note the number of the call that raised `error`; an exception that takes no attributes stays without."""
    error.__dict__[_ROOT] = task_id


class _Parts:
    """Pickles as the exception made from its parts, with or without a call of its class."""

    def __init__(self, error: BaseException, call: bool) -> None:
        state = {name: value for name, value in vars(error).items() if _can_be_pickled(value)}
        self._parts = type(error), error.args, state, call

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_parts, self._parts


def _from_parts(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], call: bool) -> BaseException:
    error = cls(*args) if call else cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _can_be_pickled(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


def _pickled(error: BaseException) -> tuple[bytes | None, bool]:
    """Return a pickle that gives an exception of the same type and message, or None; and whether it has its cause."""
    # As the class itself has it first; but tblib, which Dask installs, spoils the classes whose `__init__` is in C.
    for made in (lambda: error, lambda: _Parts(error, call=True), lambda: _Parts(error, call=False)):
        try:
            data: bytes = dumps(made())
            again = loads(data)
            if type(again) is type(error) and str(again) == str(error):
                return data, again.__cause__ is not None
        except Exception:  # what the user's class does when it is pickled is no reason to lose the error
            continue
    return None, False
