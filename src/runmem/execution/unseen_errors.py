"""Errors of tasks that the program has not seen: they are raised at its end, and make its exit code 1."""

from __future__ import annotations

from collections.abc import Iterator

from runmem.graph.call import Execution
from runmem.serialization.task_error import root_task

__all__ = ["UnseenErrors"]


class UnseenErrors:
    """One error for each call that raised; calls that depend on it fail with the same one.

    An error remains seen, also when another call that depends on it is found to have failed later.
    """

    def __init__(self) -> None:
        self._errors: dict[int, BaseException] = {}
        self._seen: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._errors)

    def __iter__(self) -> Iterator[BaseException]:
        return iter(list(self._errors.values()))

    def add(self, execution: Execution, error: BaseException) -> None:
        """Note that an execution has failed."""
        root = root_task(error) or execution.task_id
        if root not in self._seen:
            self._errors.setdefault(root, error)

    def saw(self, execution: Execution, error: BaseException) -> None:
        """Note that the program sees the error of an execution."""
        root = root_task(error) or execution.task_id
        self._seen.add(root)
        self._errors.pop(root, None)

    def take(self) -> BaseException:
        """Remove and return the first error, which the program sees now."""
        root = next(iter(self._errors))
        self._seen.add(root)
        return self._errors.pop(root)
