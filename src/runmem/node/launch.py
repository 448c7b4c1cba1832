"""See to it that a node has its one sampler."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["ensure_sampler", "sampler_pid"]

_SAMPLER = Path(__file__).with_name("sampler.py")
_START_TIMEOUT_S = 30.0
_TURN_S = 0.002


def ensure_sampler(spool_root: Path, interval_s: float) -> bool:
    """Start the sampler of the spool folder unless it runs; return whether this call started it.

    Costs about ten microseconds when it runs. Any number of processes may call this at the same time: one starts it.
    A sampler that was killed is replaced by the next call. Once ``stop`` is in the folder none is started.

    Parameters
    ----------
    spool_root : Path
        Spool folder of the run on this node; it must exist.
    interval_s : float
        Seconds from one sample to the next.

    Raises
    ------
    ValueError
        If the interval is not a number above zero.
    OSError
        If the folder cannot be written or the process cannot be started.

    Notes
    -----
    The lock belongs to the open file and not to a process. It is taken here and handed to the sampler with the file,
    so there is no moment in which two could start, and none in which a start fails because another one was tried.
    """
    if not 0 < interval_s < float("inf"):
        raise ValueError(f"a sampling interval of {interval_s} s cannot be kept: give seconds above zero")
    if (spool_root / "stop").exists():
        return False
    lock = os.open(spool_root / "sampler.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        _start(spool_root, interval_s, lock)
        return True
    finally:
        os.close(lock)


def _start(spool_root: Path, interval_s: float, lock: int) -> None:
    """Start the sampler and wait, tens of milliseconds, until the process that stays is there; leave no zombie."""
    command = [sys.executable, "-S", "-E", str(_SAMPLER), str(spool_root.absolute())]
    process = subprocess.Popen(
        [*command, "--interval", repr(float(interval_s)), "--lock", str(lock)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
        cwd="/",  # it must not keep a file system busy
    )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (code := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(_TURN_S)  # `wait` would sleep twice as long each time
    if code is None:
        raise subprocess.TimeoutExpired(process.args, _START_TIMEOUT_S)
    if code != 0:
        raise OSError(f"the memory sampler ended with code {code}: {' '.join(command)}")


def sampler_pid(spool_root: Path) -> int | None:
    """Return the process id of the sampler of the spool folder, or None when none runs."""
    try:
        pid = int((spool_root / "sampler.lock").read_text())
    except (OSError, ValueError):
        return None
    command = _command_of(pid)
    return pid if _SAMPLER.name in command and str(spool_root.absolute()) in command else None


def _command_of(pid: int) -> str:
    """Return the command line of a process, empty when it has ended: a number may have gone to another process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return ""
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return listing.stdout.decode(errors="replace").strip()
