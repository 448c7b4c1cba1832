"""Reads files that may be damaged or replaced by something else.

Only regular files are read: pipes, devices and sockets raise an `OSError` that names the kind. Lines and documents have
a maximum size, and values in messages are shortened.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from io import BufferedReader
from pathlib import Path
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import yaml

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object: text keys, and values of JSON's types."""

__all__ = [
    "JsonObject",
    "MAX_LINE_BYTES",
    "MAX_SIZE",
    "MAX_TIME_S",
    "open_file",
    "parse_yaml",
    "read_file",
    "read_json",
    "read_lines",
    "read_yaml",
    "short_repr",
]

MAX_TIME_S = 253_402_300_800.0
"""Upper bound of all times in files: the year 10,000 in seconds since the epoch."""

MAX_SIZE = 2**63
"""Upper bound of all sizes, counts and numbers in files."""

_MIB = 1024**2

MAX_LINE_BYTES = 4 * _MIB
"""Maximum size of a line: a command of 2 MiB, the maximum on Linux, fits."""

_MAX_DOCUMENT_BYTES = 256 * _MIB
_MAX_YAML_BYTES = 16 * _MIB
_MAX_YAML_VALUES = 1_000_000
_FILE_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_TRUNCATED_BYTES = 64  # of a line that is too long; without a line break, so it counts as torn

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxtuple = 2, 3, 3, 3


def short_repr(value: object) -> str:
    """Return the `repr` of a value in one line, with the middle of a long one omitted."""
    try:
        text = _short.repr(value)
    except (ValueError, RecursionError):  # a number with more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:100]}...{text[-97:]}"


def open_file(path: Path | str) -> BufferedReader:
    """Open a file for reading bytes; never blocks.

    Raises
    ------
    OSError
        If it cannot be opened or is not a regular file; ``strerror`` names its kind.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte, or a character that file names cannot contain
        raise OSError(22, f"no file can have this name ({error})", str(path)) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = _FILE_KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
            raise OSError(22, f"it is {kind}, not a file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path | str, max_bytes: int = _MAX_DOCUMENT_BYTES) -> bytes:
    """Return the content of a file.

    Raises
    ------
    OSError
        As `open_file`, and if it is larger than `max_bytes`.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(max_bytes + 1) if size <= max_bytes else b""
    if (found := max(size, len(content))) > max_bytes:
        raise OSError(27, f"it has {found / _MIB:.1f} MiB; the limit is {max_bytes / _MIB:.0f} MiB", str(path))
    return content


def read_json(path: Path | str) -> Any:
    """Return the value of a JSON file.

    Raises
    ------
    OSError
        As `read_file`.
    ValueError
        If it is not JSON. NaN and the infinities are accepted, since Python writes them.
    """
    try:
        return json.loads(read_file(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_yaml(path: Path | str, is_used: Callable[[str], bool] = lambda key: True) -> list[Any]:
    """Return the documents of a YAML file.

    Raises
    ------
    OSError
        As `read_file`.
    ValueError
        As `parse_yaml`.
    """
    return parse_yaml(read_file(path, _MAX_YAML_BYTES).decode(), is_used)


def parse_yaml(text: str, is_used: Callable[[str], bool] = lambda key: True) -> list[Any]:
    """Return the documents of a YAML text. Tags that build Python objects are an error.

    Parameters
    ----------
    is_used : callable
        Whether the content of a key is used; other content may have a key twice.

    Raises
    ------
    ValueError
        If it is not YAML, has a key twice, is nested too deeply, or has too many values with its aliases expanded: a
        few lines can expand to terabytes.
    """
    import yaml

    try:
        for node in yaml.compose_all(text, yaml.SafeLoader):
            if node is None:
                continue
            if _expanded_size(node, {}) > _MAX_YAML_VALUES:
                raise ValueError(f"it has more than {_MAX_YAML_VALUES:,} values with its aliases expanded")
            _check_keys(node, is_used, set())
        return list(yaml.safe_load_all(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, OverflowError) as error:
        # PyYAML passes on Python's errors for a value that does not match its tag, such as `!!int ""`.
        raise ValueError(" ".join(str(error).split())) from error


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node with its aliases expanded, up to the limit."""
    if not isinstance(node.value, list):
        return 1
    if (size := known.get(id(node))) is None:
        known[id(node)] = _MAX_YAML_VALUES + 1  # for a node that contains itself
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        size = min(1 + sum(_expanded_size(part, known) for part in parts), _MAX_YAML_VALUES + 1)
        known[id(node)] = size
    return size


def _check_keys(node: yaml.Node, is_used: Callable[[str], bool], seen: set[int]) -> None:
    """Raise ValueError for a key that a mapping has twice: PyYAML would keep the last value only."""
    if not isinstance(node.value, list) or id(node) in seen:
        return
    seen.add(id(node))
    keys: set[tuple[str, str]] = set()
    for part in node.value:
        if not isinstance(part, tuple):
            _check_keys(part, is_used, seen)
            continue
        key, value = part
        if isinstance(key.value, str):
            if (key.tag, key.value) in keys:
                raise ValueError(
                    f"the key {short_repr(key.value)} is there twice, in line {key.start_mark.line + 1} too"
                )
            keys.add((key.tag, key.value))
        if is_used(str(key.value)):
            _check_keys(value, is_used, seen)


def read_lines(path: Path | str, begin: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file with their line breaks, from the first line after the offset `begin`.

    A line longer than `MAX_LINE_BYTES` is truncated and has no line break, like a torn line.

    Raises
    ------
    OSError
        As `open_file`, at the call and not at the first line.

    Notes
    -----
    If the disk fails later, the last line has no line break, like a torn line.
    """
    file = open_file(path)
    if begin:
        file.seek(begin)
        file.readline(MAX_LINE_BYTES)
    return _lines(file)


def _lines(file: BufferedReader) -> Iterator[bytes]:
    portion = partial(file.readline, MAX_LINE_BYTES)
    with closing(file):
        try:
            for line in iter(portion, b""):
                if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
                    yield line
                    continue
                yield line[:_TRUNCATED_BYTES]
                del line
                _skip_line(file)
        except OSError as error:
            yield f"[{error}]".encode()


def _skip_line(file: BufferedReader) -> None:
    """Go to the end of the line, skipping holes, which have no line breaks."""
    while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        if not rest.strip(b"\0"):
            try:
                file.seek(os.lseek(file.fileno(), file.tell(), os.SEEK_DATA))
            except (OSError, AttributeError):  # no more data, or a system without holes
                file.seek(0, os.SEEK_END) if hasattr(os, "SEEK_DATA") else None
