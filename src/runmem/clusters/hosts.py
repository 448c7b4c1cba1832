"""Reads the hosts of `--hosts`: names, or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from runmem.errors import SettingError
from runmem.reading import read_file

__all__ = ["Host", "read_hosts", "distribute_workers"]

_HOST_NAME = re.compile(r"(?:[\w.-]+@)?\w[\w.:%-]*")  # no leading dash, which ssh would read as an option


@dataclass(frozen=True)
class Host:
    """A host to start workers on.

    Attributes
    ----------
    name : str
        Destination for `ssh`: a name of its configuration, a host name or an address, optionally with ``user@``.
    workers : int or None
        Number of worker processes; None: one per core.
    """

    name: str
    workers: int | None = None


def read_hosts(value: str) -> list[Host]:
    """Parse names such as ``a,me@b``, or read a file with one host per line (``me@b workers=4  # comment``).

    Raises
    ------
    SettingError
        If the file is empty or cannot be read, or a line or name is invalid.
    """
    path = Path(value).expanduser()
    if "," not in value and path.is_file():
        hosts = _read_file(path)
    elif "/" in value:
        raise SettingError(
            f"--hosts: there is no file {value!r}; give a file with one host per line, or names such as a,b."
        )
    else:
        hosts = [Host(_checked(name.strip(), "--hosts")) for name in value.split(",")]
    names = [host.name for host in hosts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingError(
            f"--hosts: {twice[0]} is given twice; for more workers, write `{twice[0]} workers=N` in a file."
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
                raise SettingError(f"{place}: {word!r} cannot be used; expected a host and optionally workers=N.")
            if host.workers is not None:
                raise SettingError(f"{place}: workers is given twice, as {host.workers} and in {word!r}.")
            host = replace(host, workers=int(match[1]))
        hosts.append(host)
    if not hosts:
        raise SettingError(f"--hosts: {path} has no hosts; write one per line.")
    return hosts


def _checked(name: str, place: str) -> str:
    if not _HOST_NAME.fullmatch(name):
        raise SettingError(f"{place}: {name!r} is not a host name; write host or user@host.")
    return name


def distribute_workers(hosts: list[Host], workers: int | None) -> list[Host]:
    """Distribute the total number of workers, if given, evenly over the hosts.

    Raises
    ------
    SettingError
        If there are fewer workers than hosts, or hosts have their own numbers.
    """
    if workers is None:
        return hosts
    if own := [host for host in hosts if host.workers is not None]:
        raise SettingError(
            f"--workers={workers}: the hosts file also sets the number of workers ({own[0].name}); omit one of them."
        )
    if workers < len(hosts):
        raise SettingError(f"--workers={workers} is less than one worker for each of the {len(hosts)} hosts.")
    each, more = divmod(workers, len(hosts))
    return [replace(host, workers=each + (number < more)) for number, host in enumerate(hosts)]
