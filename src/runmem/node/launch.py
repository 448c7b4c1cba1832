"""Start the sampler of a node."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

__all__ = ["ensure_sampler", "sampler_pid"]

_SAMPLER = Path(__file__).with_name("sampler.py")
_START_TIMEOUT_S = 30.0
_START_POLL_S = 0.002


def ensure_sampler(spool_root: Path, interval_s: float) -> bool:
    """Start the sampler of the spool folder unless it is running; return True if this call started it.

    Costs about ten microseconds if it is running. If several processes call this at the same time, only one starts it.
    The next call replaces a sampler that was killed. Once ``stop`` is in the folder, none is started.

    Raises ValueError if the interval is not a number above zero. Raises OSError if the folder cannot be written or the
    process cannot be started.

    Parameters
    ----------
    spool_root : Path
        Spool folder of the run on this node; it must exist.
    interval_s : float
        Seconds from one sample to the next.

    Notes
    -----
    The lock belongs to the open file and not to a process. It is acquired here and passed to the sampler with the file,
    so two samplers can never start at the same time, and simultaneous calls do not make each other fail.
    """
    if not 0 < interval_s < float("inf"):
        raise ValueError(f"a sampling interval of {interval_s} s is not possible: give seconds above zero")
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
    """Start the sampler and wait, tens of milliseconds, until it has forked its final process; leave no zombie."""
    command = [sys.executable, "-S", "-E", str(_SAMPLER), str(spool_root.absolute())]
    if nvml := _folder_of_nvml():
        command += ["--nvml", nvml]
    process = subprocess.Popen(
        [*command, "--interval", repr(float(interval_s)), "--lock", str(lock)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
        cwd="/",  # so that it does not keep a file system busy
    )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (code := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(_START_POLL_S)  # `wait` would double its sleep each time
    if code is None:
        raise subprocess.TimeoutExpired(process.args, _START_TIMEOUT_S)
    if code != 0:
        raise OSError(f"the memory sampler ended with code {code}: {' '.join(command)}")


def _folder_of_nvml() -> str | None:
    """Return the folder of the module that reads NVIDIA's GPUs; None if it is not installed (extra ``gpu``)."""
    try:
        found = find_spec("pynvml")
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None:
        return None
    path = Path(found.origin)
    return str(path.parent.parent if path.name == "__init__.py" else path.parent)


def sampler_pid(spool_root: Path) -> int | None:
    """Return the process id of the spool folder's sampler, or None if none is running."""
    try:
        pid = int((spool_root / "sampler.lock").read_text())
    except (OSError, ValueError):
        return None
    command = _command_of(pid)
    return pid if _SAMPLER.name in command and str(spool_root.absolute()) in command else None


def _command_of(pid: int) -> str:
    """Return the command line of a process, empty if it has ended: its id may have been reused."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return ""
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return listing.stdout.decode(errors="replace").strip()
