"""Makes the submitter of a run at its first call, so that a program without tasks does not import Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from runmem.graph.call import Execution, Submitter, TaskCall, Version

__all__ = ["LazySubmitter", "RunSubmitter"]


class RunSubmitter(Submitter, Protocol):
    """A submitter, as a run uses it at its end."""

    @property
    def broken(self) -> bool:
        """Whether the cluster could not be reached, or the connection is lost."""

    @property
    def has_open_calls(self) -> bool:
        """Whether a call is known not to have ended."""

    @property
    def finished(self) -> int:
        """Number of calls that ended without an error."""

    def open_calls(self) -> list[int]:
        """Return the numbers of the calls that are not known to have ended."""

    def failed_calls(self) -> list[int]:
        """Return the numbers of the calls that ended with an error: their own, or that of a call that they need."""

    def unseen_errors(self) -> list[BaseException]:
        """Return the errors of tasks that the program has not seen."""

    def close(self) -> None:
        """Begin no other call."""

    def abandon(self) -> None:
        """Cancel what was sent; its results are no longer wanted."""


class LazySubmitter:
    """Implements `Submitter` by one that is made at the first call.

    Parameters
    ----------
    make : callable
    waited : callable
        Called each time that the program has waited for calls.

    Attributes
    ----------
    real : RunSubmitter or None
        None before the first call.
    """

    def __init__(self, make: Callable[[], RunSubmitter], waited: Callable[[], None]) -> None:
        self._make = make
        self._waited = waited
        self.real: RunSubmitter | None = None

    def submit(self, call: TaskCall, resolve: Callable[[object], Version | None] | None) -> None:
        """Accept a call; see `Submitter`."""
        self._made().submit(call, resolve)

    def fetch(self, versions: Sequence[Version], deadline: float | None = None) -> list[Any]:
        """Wait for values and return them; see `Submitter`."""
        try:
            return self._made().fetch(versions, deadline)
        finally:
            self._waited()

    def wait(self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True) -> None:
        """Wait until executions have ended; see `Submitter`."""
        if self.real is not None:
            try:
                self.real.wait(executions, deadline, raises)
            finally:
                self._waited()

    def cancel(self, executions: Iterable[Execution] | None = None) -> None:
        """Cancel calls that have not ended; see `Submitter`."""
        if self.real is not None:
            self.real.cancel(executions)

    def has_ended(self, execution: Execution) -> bool:
        """Return True if an execution has ended; see `Submitter`."""
        return self._made().has_ended(execution)

    def _made(self) -> RunSubmitter:
        if self.real is None:
            self.real = self._make()
        return self.real
