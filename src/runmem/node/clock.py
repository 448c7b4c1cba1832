"""The clock of a run on a node: seconds since the epoch that go on evenly, whatever is done to the system's clock.

A clock that is set while a run goes on (by a person, or by NTP after a start with a wrong time) would give tasks that
end before they begin, and readings that belong to none. So the time of day is looked at once, by whoever comes first on
the node, and from then on the seconds since the machine was started are counted; `<spool>/clock` has the difference.

This module is also loaded by the sampler, without the package: standard library only, and little of that.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["clock_of", "steady_s"]

_FILE = "clock"
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # goes on while the machine sleeps


def steady_s() -> float:
    """Return seconds since some time in the past, the same for all processes of the machine; never set back."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


def clock_of(spool_root: Path | str) -> Callable[[], float]:
    """Return what tells the time of a run on this node, in seconds since the epoch.

    Parameters
    ----------
    spool_root : Path or str
        Spool folder of the run. Where nothing can be written there, a process has a clock of its own.
    """
    difference_s = _difference(os.path.join(spool_root, _FILE))
    if _BOOT is None:
        return lambda: difference_s + time.monotonic()
    read, clock = time.clock_gettime, _BOOT
    return lambda: difference_s + read(clock)


def _difference(path: str) -> float:
    own = time.time() - steady_s()
    partial = f"{path}.{os.getpid()}"
    try:
        if not os.path.exists(path):
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(repr(own))
            try:
                os.link(partial, path)  # whole, and only if nobody was quicker
            except FileExistsError:
                pass
            finally:
                os.unlink(partial)
        with open(path) as file:
            return float(file.read())
    except (OSError, ValueError):
        return own
