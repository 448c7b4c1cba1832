"""The clock of a run on a node: seconds since the epoch that advance steadily, even if the system's clock is set.

If the system's clock is set during a run (by a person, or by NTP after a start with a wrong time), tasks would end
before they begin, and readings would match no task. So the first process on the node reads the time of day once, and
from then on the seconds since boot are counted; `<spool>/clock` has the difference.

The sampler also loads this module, without the package: it imports only a few modules of the standard library.
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
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # also advances while the machine sleeps


def steady_s() -> float:
    """Return the seconds since a fixed time in the past, equal in all processes of the machine and never set back."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


def clock_of(spool_root: Path | str) -> Callable[[], float]:
    """Return the clock of a run on this node: a function that returns seconds since the epoch.

    Parameters
    ----------
    spool_root : Path or str
        Spool folder of the run. If it cannot be written, the clock is only valid in this process.
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
                os.link(partial, path)  # atomic: fails if another process was faster
            except FileExistsError:
                pass
            finally:
                os.unlink(partial)
        with open(path) as file:
            return float(file.read())
    except (OSError, ValueError):
        return own
