"""Runs one command and ends it, with all that it has started, when the process that asked for it is gone.

Started by path, as ``supervisor.py CONTROL REPORT PROGRAM ARGUMENT...`` with the numbers of two pipes; standard library
only. The command is a process group of its own. When the other end of CONTROL is closed, or on SIGTERM, the group is
ended. REPORT gets one line: ``exit VALUE PEAK_BYTES``, with a negative signal number as the value, or ``error ERRNO``.

It is small and starts the command itself, so that the peak is the command's: after a fork the kernel counts the memory
of the parent, here some 10 MB, in the peak of the child.
"""

import _signal as signal  # type: ignore[import-not-found, unused-ignore]  # `signal` takes a third of the time to start
import _thread
import errno
import os
import sys
import time

_GRACE_S = 2.0  # between SIGTERM and SIGKILL
_MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    control, report = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for descriptor in (control, report):
        os.set_inheritable(descriptor, False)
    try:
        child = _start(sys.argv[3:])
    except OSError as error:
        os.write(report, b"error %d\n" % (error.errno or 0))
        return
    signal.signal(signal.SIGTERM, lambda *_: _thread.start_new_thread(_end, (child,)))
    _thread.start_new_thread(_wait_for_end, (control, child))
    _, status, usage = os.wait4(child, 0)
    value = os.waitstatus_to_exitcode(status)
    try:
        os.write(report, b"exit %d %d\n" % (value, usage.ru_maxrss * _MAXRSS_UNIT_BYTES))
    except BrokenPipeError:  # nobody waits any more
        return


def _start(command: list[str]) -> int:
    signals = [signal.SIGINT, signal.SIGPIPE]  # both are ignored here
    try:
        return os.posix_spawn(command[0], command, os.environ, setpgroup=0, setsigdef=signals)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    shell = ["/bin/sh", *command]  # a script without a first line that names its interpreter
    return os.posix_spawn(shell[0], shell, os.environ, setpgroup=0, setsigdef=signals)


def _wait_for_end(control: int, child: int) -> None:
    os.read(control, 1)
    _end(child)


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
        os.killpg(group, signal.SIGCONT)
        time.sleep(_GRACE_S)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # all have ended
        return


if __name__ == "__main__":
    main()
