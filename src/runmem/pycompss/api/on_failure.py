"""`pycompss.api.on_failure`."""

from __future__ import annotations

from collections.abc import Callable

from runmem.errors import TaskDeclarationError
from runmem.graph.failure import failure_policy
from runmem.graph.task import TaskFunction

__all__ = ["OnFailure", "onFailure", "on_failure"]


def on_failure(*, management: str, **defaults: object) -> Callable[[TaskFunction], TaskFunction]:
    """Declare, above `@task`, what happens when the task raises.

    Parameters
    ----------
    management : str
        See ``on_failure`` of `@task`.
    **defaults
        By ``returns`` or the name of a parameter that the task writes, what stands for the value of a call that failed.

    Raises
    ------
    TaskDeclarationError
        For another policy, and below `@task`.
    """
    failure_policy({"on_failure": management, "defaults": defaults}, "@on_failure")

    def declare(function: TaskFunction) -> TaskFunction:
        if not isinstance(function, TaskFunction):
            raise TaskDeclarationError(f"@on_failure on {function!r}: it stands above @task, on a task.")
        return function.with_options(on_failure=management, defaults=defaults)

    return declare


OnFailure = onFailure = on_failure
