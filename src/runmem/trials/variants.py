"""The variants of a trial: the command with every combination of its sweeps, a baseline, and controls."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runmem.errors import SettingError
from runmem.trials.control import PATTERNS
from runmem.units import MIB, parse_bytes

__all__ = [
    "CORES",
    "ControlRequest",
    "Variant",
    "check_program",
    "control_requests",
    "control_variant",
    "numeric",
    "parse_sweeps",
    "variants_of",
]
__all__ += ["variants_of", "numeric"]

CORES = "cores"
_FIELD = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")
_CONTROL = Path(__file__).with_name("control.py")
_LEAST_CONTROL_BYTES, _MOST_CONTROL_BYTES = 64 * MIB, 512 * MIB


@dataclass(frozen=True, slots=True)
class Variant:
    """One command to execute.

    Attributes
    ----------
    role : str
        ``command``, ``baseline`` or ``control``.
    command : tuple of str
    values : dict of str to str
        The variables of the sweeps, including ``cores``, and their values here.
    cpus : tuple of int
        Processors that it may use; empty for all.
    pattern : str or None
        Pattern of a control.
    """

    role: str
    command: tuple[str, ...]
    values: dict[str, str] = field(default_factory=dict)
    cpus: tuple[int, ...] = ()
    pattern: str | None = None

    @property
    def label(self) -> str:
        """Name in tables: ``visit=1 ccd=4``, ``command``, ``baseline`` or ``control parallel``."""
        if self.role == "control":
            return f"control {self.pattern}"
        return " ".join(f"{name}={value}" for name, value in self.values.items()) or self.role


def parse_sweeps(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return name to values for texts such as ``visit=1,2``.

    Raises SettingError if a text has no name or no value, or a name or a value occurs twice.
    """
    sweeps: dict[str, list[str]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        values = [value.strip() for value in rest.split(",")]
        if not equals or not name.isidentifier() or not all(values):
            raise SettingError(f"--sweep {text}: write a name and its values, for example --sweep visit=1,2,4")
        if name == CORES:
            raise SettingError(f"--sweep {text}: use --cores for the number of processors, or another name")
        if name in sweeps:
            raise SettingError(f"--sweep {text}: {name} has a sweep already; give all its values at once")
        if len(set(values)) < len(values):
            raise SettingError(f"--sweep {text}: a value occurs twice; use --repeat to run each several times")
        sweeps[name] = values
    return sweeps


def variants_of(command: Sequence[str], sweeps: dict[str, list[str]], cores: Sequence[int] = ()) -> list[Variant]:
    """Return the command with each combination of values in place of its ``{name}``; ``{{name}}`` means ``{name}``.

    Raises SettingError if the command uses a name without a sweep or does not use a sweep, the program does not exist,
    or there are too few processors.
    """
    used = {match.group(2) for word in command for match in _FIELD.finditer(word) if match.group(2)}
    for name in sorted(used - sweeps.keys()):
        raise SettingError(
            f"the command has {{{name}}}, but there is no --sweep {name}=...: add one, or write {{{{{name}}}}} for the "
            f"text {{{name}}}"
        )
    for name in sorted(sweeps.keys() - used):
        raise SettingError(f"--sweep {name}: the command has no {{{name}}} where its values could go")
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for count in cores:
        if not 1 <= count <= len(cpus):
            raise SettingError(f"--cores {count}: this process may use {len(cpus)} processors")
    found = []
    for chosen in itertools.product(*sweeps.values()):
        values = dict(zip(sweeps, chosen, strict=True))
        words = tuple(_filled(word, values) for word in command)
        check_program(words)
        for count in cores or [0]:
            swept = {**values, CORES: str(count)} if count else values
            found.append(Variant("command", words, swept, tuple(cpus[:count])))
    return found


def _filled(word: str, values: dict[str, str]) -> str:
    return _FIELD.sub(lambda match: f"{{{match.group(1)}}}" if match.group(1) else values[match.group(2)], word)


def check_program(command: Sequence[str]) -> None:
    """Raise a SettingError if the program of a command cannot be executed."""
    if not command or not command[0]:
        raise SettingError("no command given: runmem trial [OPTIONS] -- COMMAND")
    if shutil.which(command[0]) is not None:
        return
    path = Path(command[0])
    if path.is_file():
        how = f"python {path}" if path.suffix == ".py" else f"chmod +x {path}"
        raise SettingError(f"{command[0]} is not executable: try {how}")
    place = "does not exist" if os.sep in command[0] else "is not on the PATH"
    raise SettingError(f"the program {command[0]!r} {place}")


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """A requested control: its pattern and its size in bytes (None: close to that of the command)."""

    pattern: str
    size_bytes: int | None = None


def control_requests(texts: Sequence[str]) -> list[ControlRequest] | None:
    """Parse ``--control``; return None for ``auto``, an empty list for ``none``.

    Raises SettingError if a pattern or a size is not valid.
    """
    if not texts or list(texts) == ["auto"]:
        return None
    if list(texts) == ["none"]:
        return []
    requests = []
    for text in texts:
        pattern, _, size = text.partition(":")
        if pattern not in PATTERNS:
            raise SettingError(f"--control {text}: the patterns are {', '.join(PATTERNS)}; or auto, or none")
        try:
            request = ControlRequest(pattern, parse_bytes(size) if size else None)
        except ValueError as error:
            raise SettingError(f"--control {text}: {error}") from None
        if request.size_bytes is not None and request.size_bytes < MIB:
            raise SettingError(f"--control {text}: a control has at least 1 MiB")
        requests.append(request)
    return requests


def control_variant(request: ControlRequest, command_bytes: int | None, available_bytes: int) -> Variant:
    """Return a control of the requested size, or of the command's size between 64 and 512 MiB.

    Parameters
    ----------
    command_bytes : int or None
        Memory of the command.
    available_bytes : int
        Memory of the machine: an automatic size is at most a sixteenth of it, since patterns use it several times.
    """
    size = request.size_bytes
    if size is None:
        size = min(max(command_bytes or 0, _LEAST_CONTROL_BYTES), _MOST_CONTROL_BYTES, max(available_bytes // 16, MIB))
    words = [sys.executable, "-I", "-S", str(_CONTROL), request.pattern, "--size_mib", str(max(size // MIB, 1))]
    return Variant("control", tuple(words), pattern=request.pattern)


def numeric(text: str) -> float | None:
    """Return a value of a sweep as a finite number, None if it is not one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None
