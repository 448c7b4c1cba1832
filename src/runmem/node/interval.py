"""A longer interval for the sampler of a node that already runs: the file ``<spool>/interval``.

The master writes it where more readings come than it can collect. Its first line is the number of seconds, its second
the reason, which goes into the traces as a ``NOTE``. The sampler reads it when the spool folder has changed.

The sampler also loads this module, without the package: it imports only a few modules of the standard library.
"""

from __future__ import annotations

import os

__all__ = ["read_interval", "write_interval"]

_FILE = "interval"
_MOST_BYTES = 1000


def write_interval(spool_root: str, interval_s: float, reason: str) -> None:
    """Ask the sampler for an interval, unless this was asked before. Raises OSError if that cannot be written."""
    path = os.path.join(spool_root, _FILE)
    content = f"{interval_s!r}\n{' '.join(reason.split())}\n".encode()[:_MOST_BYTES]
    try:
        with open(path, "rb") as file:
            if file.read() == content:
                return
    except FileNotFoundError:
        pass
    partial = f"{path}.{os.getpid()}"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
    os.replace(partial, path)


def read_interval(spool_root: str) -> tuple[float, str] | None:
    """Return the interval in seconds that is asked for, and the reason; None if there is none that can be used."""
    try:
        with open(os.path.join(spool_root, _FILE), "rb") as file:
            interval_s, _, reason = file.read(_MOST_BYTES).decode("utf-8", "replace").partition("\n")
        return (seconds, reason.strip()) if 0 < (seconds := float(interval_s)) < float("inf") else None
    except (OSError, ValueError):
        return None
