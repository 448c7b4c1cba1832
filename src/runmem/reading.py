"""Reads files that others may have damaged or put in place of ours.

A file is read only if it is one: a pipe, a device or a socket in its place is refused at once, as an `OSError` that
says what is there. No line and no document is taken into memory beyond a bound, and values are shown shortened.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from io import BufferedReader
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeAlias

__all__ = ["JsonObject", "MOST_LINE_BYTES", "MOST_SIZE", "MOST_TIME_S", "open_file", "read_file", "read_json",
           "read_yaml", "lines_of", "shown"]  # fmt: skip

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object: text keys, and values of JSON's types."""

MOST_TIME_S = 253_402_300_800.0
"""Seconds since the epoch of the year 10,000: no time in a file is later."""

MOST_SIZE = 2**63
"""Bytes; no size, count or number in a file is as large."""

_MIB = 1024**2

MOST_LINE_BYTES = 4 * _MIB
"""A longer line is of no file of ours; a command of 2 MiB, the most that Linux takes, fits."""

_MOST_DOCUMENT_BYTES = 256 * _MIB
_MOST_YAML_BYTES = 16 * _MIB
_MOST_YAML_VALUES = 1_000_000
_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}  # fmt: skip
_UNKNOWN_KIND = "of no kind that can be read"
_TORN = 64  # so much of a line that is too long is handed on: without a line break, as a torn one

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxtuple = 2, 3, 3, 3


def shown(value: object) -> str:
    """Return a value for a message: as Python writes it, in one line, and the middle of a long one left out."""
    try:
        text = _short.repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes
        text = f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:100]}...{text[-97:]}"


def open_file(path: Path | str) -> BufferedReader:
    """Open a file to be read as bytes; never waits.

    Raises
    ------
    OSError
        If it cannot be opened, or is no regular file; ``strerror`` says what it is.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte, or a character that no name of a file has
        raise OSError(22, f"no file can have this name ({error})", str(path)) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), _UNKNOWN_KIND)
            raise OSError(22, f"it is {kind}, not a file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path | str, most_bytes: int = _MOST_DOCUMENT_BYTES) -> bytes:
    """Return the content of a file.

    Raises
    ------
    OSError
        As `open_file`, and if it has more than `most_bytes`.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most_bytes + 1) if size <= most_bytes else b""
    if max(size, len(content)) > most_bytes:
        found, most = max(size, len(content)) / _MIB, most_bytes / _MIB
        raise OSError(27, f"it has {found:.1f} MiB, and no more than {most:.0f} MiB are read", str(path))
    return content


def read_json(path: Path | str) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    OSError
        As `read_file`.
    ValueError
        If it is no JSON. NaN and the infinities, which JSON has not and Python writes, are read.
    """
    try:
        return json.loads(read_file(path))
    except RecursionError:
        raise ValueError("it is nested more deeply than can be read") from None


def read_yaml(path: Path | str) -> list[Any]:
    """Return the documents of a YAML file; tags that build Python objects are refused.

    Raises
    ------
    OSError
        As `read_file`.
    ValueError
        If it is no YAML, or is nested too deeply; or if its aliases make more of it than anybody has written: a few
        lines can stand for terabytes.
    """
    import yaml

    text = read_file(path, _MOST_YAML_BYTES).decode()
    try:
        for node in yaml.compose_all(text, yaml.SafeLoader):
            if node is not None and _whole_size(node, {}) > _MOST_YAML_VALUES:
                raise ValueError(f"with its aliases written out it has more than {_MOST_YAML_VALUES:,} values")
        return list(yaml.safe_load_all(text))
    except RecursionError:
        raise ValueError("it is nested more deeply than can be read") from None
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, OverflowError) as error:
        # PyYAML lets out what Python says of a value that its tag does not fit, such as `!!int ""`.
        raise ValueError(" ".join(str(error).split())) from error


def _whole_size(node: Any, known: dict[int, int]) -> int:
    """Return how many values there are in a node, what an alias stands for counted each time; no more than needed."""
    if not isinstance(node.value, list):
        return 1
    if (size := known.get(id(node))) is None:
        known[id(node)] = _MOST_YAML_VALUES + 1  # for a node that holds itself
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        size = min(1 + sum(_whole_size(part, known) for part in parts), _MOST_YAML_VALUES + 1)
        known[id(node)] = size
    return size


def lines_of(path: Path | str, begin: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file with their line breaks, from the first line after the offset `begin` on.

    Of a line longer than `MOST_LINE_BYTES` the beginning is yielded, without a line break: as one that is torn.

    Raises
    ------
    OSError
        As `open_file`, at once and not at the first line.

    Notes
    -----
    Where the disk fails on the way, what comes last is a line without a line break, as a torn one.
    """
    file = open_file(path)
    if begin:
        file.seek(begin)
        file.readline(MOST_LINE_BYTES)
    return _lines(file)


def _lines(file: BufferedReader) -> Iterator[bytes]:
    portion = partial(file.readline, MOST_LINE_BYTES)
    with closing(file):
        try:
            for line in iter(portion, b""):
                if len(line) < MOST_LINE_BYTES or line.endswith(b"\n"):
                    yield line
                    continue
                yield line[:_TORN]
                del line
                _skip_line(file)
        except OSError as error:
            yield f"[{error}]".encode()


def _skip_line(file: BufferedReader) -> None:
    """Go to the end of the line; a hole, which has no line break, is jumped over."""
    while (rest := file.readline(MOST_LINE_BYTES)) and not rest.endswith(b"\n"):
        if not rest.strip(b"\0"):
            try:
                file.seek(os.lseek(file.fileno(), file.tell(), os.SEEK_DATA))
            except (OSError, AttributeError):  # no more data; a system that knows no holes
                file.seek(0, os.SEEK_END) if hasattr(os, "SEEK_DATA") else None
