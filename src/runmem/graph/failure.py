"""Failure policies of tasks: `on_failure=` in `@task`, or `@on_failure` above it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from runmem.errors import TaskDeclarationError
from runmem.graph.directions import Parameter
from runmem.settings import ON_MEMORY

__all__ = [
    "MOST_TRIES", "Management", "OnFailure", "failure_policy", "memory_policy", "policy_in_run", "retries_by_default",
]  # fmt: skip

MOST_TRIES = 4  # of a call that is tried again, the first one counted


class Management(Enum):
    """Reaction to a call that raised, or whose worker died each time."""

    FAIL = "FAIL"
    RETRY = "RETRY"
    IGNORE = "IGNORE"
    CANCEL_SUCCESSORS = "CANCEL_SUCCESSORS"


@dataclass(frozen=True, slots=True)
class OnFailure:
    """Failure policy of a task.

    Attributes
    ----------
    management : Management
    values : dict
        Values that replace those of a failed call, by ``returns`` or the name of a written parameter.
    is_default : bool
        Whether the task declares no policy. It is then tried again only after an exception of its own function, and
        only if its data are still there.
    """

    management: Management
    values: Mapping[str, object] = field(default_factory=dict)
    is_default: bool = False

    @property
    def keeps_output(self) -> bool:
        """Whether files stay as a call that failed has left them."""
        return self.management in (Management.IGNORE, Management.CANCEL_SUCCESSORS)

    def returned(self, count: int) -> tuple[object, ...]:
        """Return the values that replace the returned values of a failed call."""
        value = self.values.get("returns")
        if count > 1 and isinstance(value, (list, tuple)) and len(value) == count:
            return tuple(value)
        return (value,) * count


_RETRY_BY_DEFAULT = OnFailure(Management.RETRY, is_default=True)


def retries_by_default() -> bool:
    """Return True if tasks without a policy are tried again: in a program that imports pycompss."""
    return "pycompss" in sys.modules


def policy_in_run(declared: OnFailure | None, retries: bool) -> OnFailure | None:
    """Return the failure policy of a call: what its task declares, or the default."""
    return _RETRY_BY_DEFAULT if declared is None and retries else declared


def failure_policy(options: Mapping[str, object], where: str) -> OnFailure | None:
    """Return the failure policy in the options of `@task`; None: waiting for the call raises what the task raised.

    Raises
    ------
    TaskDeclarationError
        For a value that is not a policy.
    """
    declared, values = options.get("on_failure"), options.get("defaults")
    if isinstance(declared, Parameter):  # a parameter of that name
        return None
    if isinstance(declared, Mapping):
        values = {**(values if isinstance(values, Mapping) else {}), **declared}
        declared = values.pop("management", None)
    if values is None or isinstance(values, Parameter):
        values = {}
    if not isinstance(values, Mapping):
        raise TaskDeclarationError(f"{where}: defaults={values!r} is not a dictionary of parameter names and values.")
    if declared is None:
        return OnFailure(Management.FAIL, dict(values)) if values else None
    if not isinstance(declared, str) or declared.upper() not in Management.__members__:
        names = ", ".join(Management.__members__)
        raise TaskDeclarationError(f"{where}: on_failure={declared!r} is not one of {names}.")
    return OnFailure(Management[declared.upper()], dict(values))


def memory_policy(options: Mapping[str, object], where: str) -> str | None:
    """Return what ``on_memory`` in the options of `@task` says; None: nothing.

    Raises
    ------
    TaskDeclarationError
        For a value that is not one of `runmem.settings.ON_MEMORY`.
    """
    value = options.get("on_memory")
    if value is None or isinstance(value, Parameter):  # a parameter of that name
        return None
    if not isinstance(value, str) or value not in ON_MEMORY:
        raise TaskDeclarationError(f"{where}: on_memory={value!r} is not one of {', '.join(ON_MEMORY)}.")
    return value
