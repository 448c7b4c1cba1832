"""Read ``run.json`` and check the types of its values; others are reported and ignored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from runmem.reading import MAX_SIZE, MAX_TIME_S, JsonObject, read_json, short_repr

__all__ = ["read_provenance"]

_MOST_NODES = 100_000
_MOST_TEXT = 10_000
_MOST_REPORTED = 20
_MOST_PID = 2**31  # Linux gives no more than 2**22

Check = Callable[[object, str, list[str]], object]


def read_provenance(path: Path) -> tuple[JsonObject, list[str]]:
    """Return the valid values of ``run.json``, and a line for each ignored value with the reason.

    Unknown values and null are omitted; keys of a later version are kept.
    """
    name = path.name
    try:
        content = read_json(path)
    except OSError as error:
        return {}, [f"{name}: it cannot be read: {error.strerror or error}"]
    except ValueError as error:
        return {}, [f"{name}: it is not JSON: {_reason(error)}"]
    if not isinstance(content, dict):
        return {}, [f"{name}: it is {short_repr(content)}, not a mapping of names to values"]
    refused: list[str] = []
    found = {}
    for key, value in content.items():
        check = _CHECKS.get(key)
        checked = value if check is None or value is None else check(value, key, refused)
        if checked is not None:
            found[key] = checked
    named = [f"{name}: {text}; ignored" for text in refused[:_MOST_REPORTED]]
    more = len(refused) - len(named)
    return found, [*named, f"{name}: {more} more values; ignored"] if more else named


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} in line {error.lineno}"
    return f"byte {error.start} is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _refuse(value: object, place: str, wanted: str, refused: list[str]) -> None:
    """Record why a value is ignored."""
    refused.append(f"{place} is {short_repr(value)}, which is not a valid {wanted}")


def _number(wanted: str, most: float, least: float = 0, whole: bool = True) -> Check:
    types = (int,) if whole else (int, float)

    def check(value: object, place: str, refused: list[str]) -> float | None:
        if isinstance(value, types) and type(value) is not bool and least <= value < most:  # false for NaN and infinity
            return value if whole else float(value)
        _refuse(value, place, wanted, refused)
        return None

    return check


def _text(value: object, place: str, refused: list[str]) -> str | None:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        _refuse(value, place, f"text of up to {_MOST_TEXT:,} characters", refused)
        return None
    return value


def _flag(value: object, place: str, refused: list[str]) -> bool | None:
    if isinstance(value, bool):
        return value
    refused.append(f"{place} is {short_repr(value)}, which is neither true nor false")
    return None


def _texts(value: object, place: str, refused: list[str]) -> list[str] | None:
    if not isinstance(value, list):
        _refuse(value, place, "list of texts", refused)
        return None
    found = [_text(item, f"{place}[{number}]", refused) for number, item in enumerate(value[:_MOST_NODES])]
    return [item for item in found if item is not None]


def _mapping(checks: dict[str, Check]) -> Check:
    def check(value: object, place: str, refused: list[str]) -> JsonObject | None:
        if not isinstance(value, dict):
            _refuse(value, place, "mapping of names to values", refused)
            return None
        found = {}
        for key, item in value.items():
            inner = checks.get(key)
            checked = item if inner is None or item is None else inner(item, f"{place}.{key}", refused)
            if checked is not None:
                found[key] = checked
        return found

    return check


_size = _number("number of bytes", MAX_SIZE)
_node = _mapping({"memory_bytes": _size, "limit_bytes": _size, "limit_source": _text, "jobs": _texts})


def _nodes(value: object, place: str, refused: list[str]) -> JsonObject | None:
    if not isinstance(value, dict):
        _refuse(value, place, "mapping of nodes", refused)
        return None
    found = {name[:_MOST_TEXT]: _node(known, f"{place}.{name[:60]}", refused) for name, known in value.items()}
    return {name: known for name, known in found.items() if known is not None}


_time = _number("time in seconds since the epoch", MAX_TIME_S, whole=False)
_CHECKS: dict[str, Check] = {
    "app": _text,
    "run_id": _text,
    "command": _texts,
    "host": _text,
    "pid": _number("process id", _MOST_PID, least=1),
    "started_s": _time,
    "ended_s": _time,
    "exit_code": _number("exit code", 256, least=-255),
    "cluster": _text,
    "workers": _number("number of workers", MAX_SIZE),
    "calls": _number("number of calls", MAX_SIZE),
    "calls_not_begun": _number("number of calls", MAX_SIZE),
    "nested_calls_recorded": _number("number of calls", MAX_SIZE),
    "versions": _mapping({}),
    "settings": _mapping({"python_memory_profile": _flag}),
    "nodes": _nodes,
    "trace_files": _texts,
    "intervals": _texts,
    "lost": _texts,
    "lost_output": _text,
    "records_complete": _flag,
}
