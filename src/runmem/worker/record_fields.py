"""What a task itself knows of its record, such as the data id of its target or the memory of a process it started."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["set_record_fields", "take_record_fields"]

_told = threading.local()


def set_record_fields(**fields: Any) -> None:
    """Set fields of the record of the task that this thread runs; called inside the task.

    They take the place of what was measured; `status` and `exception` too. Others than those of a record are written
    beside them, and must be what JSON can hold. Without a run that measures nothing happens.
    """
    _told.__dict__.update(fields)


def take_record_fields() -> dict[str, Any]:
    """Return what was set in this thread since the last call, and forget it."""
    fields = _told.__dict__
    if not fields:
        return {}
    taken = dict(fields)
    fields.clear()
    return taken
