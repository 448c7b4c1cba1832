"""What ``--show`` prints."""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from runmem.task_runner.configurations import text_of
from runmem.task_runner.data_ids import DataIdContainer, data_id_of

__all__ = ["show"]

_SHOWN = ("config", "data", "tasks", "run")
_WITH_CASE = ":NOIGNORECASE"


def show(namespace: argparse.Namespace, containers: Mapping[str, DataIdContainer]) -> None:
    """Print what was asked for; end the program unless ``run`` is among it, and with 1 if it is unknown."""
    for what in namespace.show:
        kind, _, pattern = what.partition("=")
        if kind not in _SHOWN:
            raise SystemExit(f"Unknown value for show: {what} (choose from 'config[=PATTERN]', 'data', 'tasks', 'run')")
        if kind == "config":
            print(_matching(text_of(namespace.config), pattern))
        elif kind == "tasks":
            print("\n".join(["Subtasks:", *sorted(_subtasks(namespace.config))]))
        elif kind == "data":
            for name, container in containers.items():
                for ref in container.refList:
                    print(f"{name} dataRef.dataId = {data_id_of(ref)}")
    if namespace.show and "run" not in namespace.show:
        sys.stdout.flush()
        raise SystemExit(os.EX_OK)


def _matching(text: str, pattern: str) -> str:
    """Return the fields, with their descriptions, whose name ends in a match of a pattern (``*threshold*``)."""
    if not pattern:
        return text
    name = pattern.removeprefix("config.").removesuffix(_WITH_CASE)
    regards_case = pattern.endswith(_WITH_CASE)
    if not regards_case and name != name.lower():
        print(f'Matching "{name}" without regard to case (append {_WITH_CASE} to prevent this)')
    wanted = re.compile(fnmatch.translate(name), 0 if regards_case else re.IGNORECASE)
    fields = [block for block in re.split(r"\n{2,}", text.strip()) if block]
    return "\n\n".join(block for block in fields if wanted.search(_name_of(block)))


def _name_of(block: str) -> str:
    return block.splitlines()[-1].partition("=")[0]


def _subtasks(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield a line for each task that a field of the configuration makes (``lsst.pex.config.ConfigurableField``)."""
    for name, field in config.items():
        target = getattr(field, "target", None)
        if target is not None and hasattr(field, "value"):
            module = getattr(target, "__module__", "")
            yield f"{prefix}{name}: {module}.{getattr(target, '__name__', repr(target))}"
            yield from _subtasks(field.value, f"{prefix}{name}.")
