"""The hosts that `--hosts` names: in a row, or in a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from runmem.errors import SettingError
from runmem.reading import read_file

__all__ = ["Host", "read_hosts", "distribute_workers"]

_NAME = re.compile(r"(?:[\w.-]+@)?\w[\w.:%-]*")  # never a dash first: ssh would take it for an option


@dataclass(frozen=True)
class Host:
    """A host to start workers on.

    Attributes
    ----------
    name : str
        What `ssh` is given: a name of its configuration, a host name or an address; ``user@`` may stand before it.
    workers : int or None
        Worker processes; None: one a core.
    """

    name: str
    workers: int | None = None


def read_hosts(value: str) -> list[Host]:
    """Return the hosts that ``a,me@b`` names, or a file with one host a line (``me@b workers=4  # comment``).

    Raises
    ------
    SettingError
        If the file is empty or cannot be read, or a line or name cannot be used; says which line.
    """
    path = Path(value).expanduser()
    if "," not in value and path.is_file():
        hosts = _read_file(path)
    elif "/" in value:
        raise SettingError(
            f"--hosts: there is no file {value!r}; give a file with one host a line, or names such as a,b."
        )
    else:
        hosts = [Host(_checked(name.strip(), "--hosts")) for name in value.split(",")]
    names = [host.name for host in hosts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingError(
            f"--hosts: {twice[0]} is named twice; `{twice[0]} workers=N` in a file says how many workers."
        )
    return hosts


def _read_file(path: Path) -> list[Host]:
    try:
        lines = read_file(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"--hosts: {path} cannot be read as text: {error}.") from error
    hosts = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        place = f"--hosts: {path}, line {number}"
        host = Host(_checked(words[0], place))
        for word in words[1:]:
            if not (match := re.fullmatch(r"workers=([1-9]\d{0,5})", word)):
                raise SettingError(f"{place}: {word!r} cannot be used; a line is a host and, if need be, workers=N.")
            host = replace(host, workers=int(match[1]))
        hosts.append(host)
    if not hosts:
        raise SettingError(f"--hosts: {path} names no host; write one a line.")
    return hosts


def _checked(name: str, place: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingError(f"{place}: {name!r} is no name of a host; write host or user@host.")
    return name


def distribute_workers(hosts: list[Host], workers: int | None) -> list[Host]:
    """Return the hosts with the number of workers of each, given what `--workers` asks for in all (None: nothing).

    Raises
    ------
    SettingError
        If there are fewer workers than hosts, or hosts have numbers of their own already.
    """
    if workers is None:
        return hosts
    if own := [host for host in hosts if host.workers is not None]:
        raise SettingError(
            f"--workers={workers}: the hosts file says how many there are ({own[0].name}); leave one out."
        )
    if workers < len(hosts):
        raise SettingError(f"--workers={workers} is fewer than the {len(hosts)} hosts: each has one worker or more.")
    each, more = divmod(workers, len(hosts))
    return [replace(host, workers=each + (number < more)) for number, host in enumerate(hosts)]
