"""Fields of a record that the task itself sets, such as the memory of a process that it started."""

from __future__ import annotations

import threading

__all__ = ["set_record_fields", "take_record_fields"]

_fields = threading.local()


def set_record_fields(**fields: object) -> None:
    """Set fields of the record of the task that this thread runs; called inside the task.

    They take the place of what was measured; `status` and `exception` too. Others than those of a record are written
    beside them, and must have types of JSON. Without a run that measures nothing happens.
    """
    _fields.__dict__.update(fields)


def take_record_fields() -> dict[str, object]:
    """Return the fields that were set in this thread since the last call, and forget them."""
    fields = _fields.__dict__
    if not fields:
        return {}
    taken = dict(fields)
    fields.clear()
    return taken
