"""The XML files of COMPSs that name the nodes of a run: ``project.xml`` and ``resources.xml``."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from runmem.errors import SettingError
from runmem.reading import read_file

__all__ = ["settings_from_xml"]

log = logging.getLogger(__name__)

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_BYTES_PER_SIZE = 1024**3  # sizes in the files are in GB, by which COMPSs means GiB


class _ComputeNode(NamedTuple):
    """A node of a file; None: not in the file."""

    cores: int | None
    memory_bytes: int | None


def settings_from_xml(project: Path | None, resources: Path | None) -> dict[str, object]:
    """Return the settings ``workers``, ``worker_memory`` and ``hosts`` for these files.

    Nodes are those of the project, or of the resources without a project. A node has the cores and the memory of the
    resources, and at most as many workers as the project's ``LimitOfTasks``.

    Raises
    ------
    SettingError
        If a file cannot be read, is not XML, or names no node.
    """
    limits = _nodes(project, "--project") if project is not None else {}
    sizes = _nodes(resources, "--resources") if resources is not None else {}
    names = list(limits or sizes)
    if not names:
        return {}
    if limits and sizes and (unknown := [name for name in names if name not in sizes]):
        log.warning(
            "%s does not have nodes of %s, so cores and memory are not taken from it: %s",
            resources, project, ", ".join(unknown),
        )  # fmt: skip
    nodes = {name: _merged(limits.get(name), sizes.get(name)) for name in names}
    cores = [node.cores for node in nodes.values()]
    workers = sum(count for count in cores if count is not None) if None not in cores else None
    settings: dict[str, object] = {"workers": workers}
    memory = [node.memory_bytes for node in nodes.values() if node.memory_bytes is not None]
    if workers and len(memory) == len(nodes):
        settings["worker_memory"] = min(
            node.memory_bytes // node.cores for node in nodes.values() if node.memory_bytes and node.cores
        )
    if not all(name in _LOCAL_NAMES or name == socket.gethostname() for name in names):
        settings["hosts"] = ",".join(names)
    return {name: value for name, value in settings.items() if value is not None}


def _merged(limit: _ComputeNode | None, size: _ComputeNode | None) -> _ComputeNode:
    counts = [node.cores for node in (limit, size) if node is not None and node.cores is not None]
    return _ComputeNode(min(counts, default=None), size.memory_bytes if size is not None else None)


def _nodes(path: Path, option: str) -> dict[str, _ComputeNode]:
    """Return the compute nodes of a file by their names."""
    try:
        root = ElementTree.fromstring(read_file(path))
    except OSError as error:
        raise SettingError(f"{option}: {str(path)!r} cannot be read: {error.strerror or error}.") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise SettingError(f"{option}: {str(path)!r} is not XML: {error}.") from error
    nodes = {}
    for element in root.iter():
        if _tag(element) != "ComputeNode":
            continue
        name = element.get("Name")
        if not name:
            raise SettingError(f'{option}: {str(path)!r} has a ComputeNode without a name: write Name="...".')
        if name in nodes:
            raise SettingError(f"{option}: {str(path)!r} has ComputeNode {name} twice: write it once.")
        nodes[name] = _node(element, f"{option}: {str(path)!r}, ComputeNode {name}")
    if not nodes:
        raise SettingError(f'{option}: {str(path)!r} names no node: write <ComputeNode Name="localhost">.')
    return nodes


def _node(element: ElementTree.Element, where: str) -> _ComputeNode:
    units: list[int] = []
    memory: int | None = None
    limit: int | None = None
    for child in element:
        if _tag(child) == "Processor" and (_text(child, "Type") or "CPU") == "CPU":
            units.append(_count(_text(child, "ComputingUnits") or "1", f"{where}, ComputingUnits"))
        elif _tag(child) == "Memory" and (size := _text(child, "Size")):
            memory = int(_number(size, f"{where}, Memory") * _BYTES_PER_SIZE)
        elif _tag(child) == "LimitOfTasks" and (child.text or "").strip():
            limit = _count(child.text or "", f"{where}, LimitOfTasks")
    return _ComputeNode(sum(units) if units else limit, memory)


def _tag(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _text(element: ElementTree.Element, name: str) -> str | None:
    """Return the text of a child, if there is one."""
    return next(((child.text or "").strip() for child in element if _tag(child) == name), None)


def _count(text: str, where: str) -> int:
    count = _number(text, where)
    if count < 1 or not count.is_integer():
        raise SettingError(f"{where}: {text.strip()!r} is not a whole number of 1 or more.")
    return int(count)


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1e9:
        raise SettingError(f"{where}: {text.strip()!r} is not a positive number.")
    return number
