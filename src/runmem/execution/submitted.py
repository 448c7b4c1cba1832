"""Makes the event of a submitted call."""

from __future__ import annotations

from runmem.events import TaskSubmitted
from runmem.graph.call import TaskCall, Version

__all__ = ["submitted"]


def submitted(call: TaskCall, inputs: list[Version]) -> TaskSubmitted:
    """Return the event of a call, with the data and the calls that it depends on.

    Parameters
    ----------
    inputs : list of Version
        The versions in its arguments.
    """
    data = dict.fromkeys((v.execution.task_id, v.output) for v in inputs if v.execution.task_id)
    after = dict.fromkeys(execution.task_id for execution in call.after)
    files = dict.fromkeys(path for use in call.files for path in (use.places.values() or [use.path]))
    return TaskSubmitted(call.execution.task_id, call.execution.name, tuple(data), tuple(after), tuple(files))
