"""Commands that take the place of a task's function: programs, alone or under the runner of an MPI."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from runmem.commands.call_arguments import CallArguments, Count
from runmem.commands.containers import Container, ContainerCommand
from runmem.commands.process import Streams, find_program, reason_of, run_command, shown
from runmem.errors import CommandError, CommandFailedError
from runmem.worker.record_fields import set_record_fields

__all__ = [
    "Command",
    "CompssCommand",
    "DecafCommand",
    "ExitPolicy",
    "MpiRunner",
    "CommandLine",
    "start_command",
    "working_folder",
]

_MANY_RANKS = {  # Open MPI, version 5 and before: more ranks than cores are no error
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


@dataclass(frozen=True, slots=True)
class ExitPolicy:
    """Whether a task fails if its command does, as ``fail_by_exit_value`` says: a word or an environment variable."""

    text: str = "true"

    def check(self, exit_value: int, command: Sequence[str], where: str) -> None:
        """Raise CommandFailedError for an exit value that makes the task fail."""
        fails = os.path.expandvars(self.text).strip().lower() not in ("false", "0", "no", "")
        if exit_value and fails:
            raise CommandFailedError(f"{where}: {shown(command)} {reason_of(exit_value)}.")


def start_command(
    words: Sequence[str], call: CallArguments, folder: str, streams: Streams | None = None, program: str | None = None
) -> int:
    """Run a command for a call, and return its exit value; its memory becomes part of the task's record.

    `program`: path of the program that uses the memory; None: that of the command.
    """
    end = run_command(words, folder, _environment(call), streams or Streams(), call.place)
    if end.peak_bytes > call.peak_bytes:
        call.peak_bytes = end.peak_bytes
        set_record_fields(children_peak_bytes=call.peak_bytes, children_command=os.path.basename(program or words[0]))
    return end.exit_value


def _environment(call: CallArguments) -> dict[str, str]:
    return call.environment() | {name: value for name, value in _MANY_RANKS.items() if name not in os.environ}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A program and its arguments.

    Attributes
    ----------
    name : str
        Its name or path; a template.
    args : str or None
        Template of its arguments; None: those of the task, in their order.
    first : tuple of str
        Templates of arguments that come before.
    processes : Count
        How many the runner of an MPI starts.
    """

    name: str
    args: str | None = None
    first: tuple[str, ...] = ()
    processes: Count = Count("1")

    def words(self, call: CallArguments, folder: str, container: Container | None) -> list[str]:
        """Return the command, from the path of its program on. Raises CommandError if that is not there."""
        rest = call.words() if self.args is None else call.split(self.args, folder)
        rest = [*map(call.text, self.first), *rest]
        name = call.text(self.name)
        if container is None:
            return [find_program(name, folder, call.environment(), call.place), *rest]
        folders = [os.getcwd(), *(os.path.dirname(path) for path in call.paths())]
        return container.command(ContainerCommand([name, *rest], folder, folders, call.environment(), call.place))


@dataclass(frozen=True, slots=True)
class MpiRunner:
    """The program that starts the processes of an MPI.

    Attributes
    ----------
    name, flags : str
        Templates.
    scales : str
        Whether there are as many times the processes as computing units: a word or an environment variable.
    """

    name: str = "mpirun"
    flags: str = ""
    scales: str = "false"

    def words(self, parts: Sequence[tuple[Count, Sequence[str]]], call: CallArguments, folder: str) -> list[str]:
        """Return the command that starts so many processes of each of these commands.

        Raises
        ------
        CommandError
            If the runner is not there.
        """
        name = call.text(self.name)
        runner = find_program(name, folder, call.environment(), call.place)
        scaled = call.units() if os.path.expandvars(self.scales).strip().lower() == "true" else 1
        found = [runner, *call.split(self.flags, folder)]
        for number, (processes, words) in enumerate(parts):
            found += [*([":"] if number else []), "-n", str(processes.of(call) * max(1, scaled)), *words]
        return found


@dataclass(frozen=True, slots=True)
class Command:
    """One or, under a runner, several programs that run in place of the task's function.

    Attributes
    ----------
    programs : tuple of CommandLine
    runner : MpiRunner or None
        None: there is one program, and it is started by itself.
    working_dir : str or None
        Template of the folder that it runs in, which is made if it is not there; None: that of the task.
    exit_policy : ExitPolicy
    """

    programs: tuple[CommandLine, ...]
    runner: MpiRunner | None = None
    working_dir: str | None = None
    exit_policy: ExitPolicy = ExitPolicy()

    def run(self, call: CallArguments, container: Container | None = None) -> int:
        """Run the command for one call and return its exit value. Raises CommandError."""
        folder = working_folder(self.working_dir, call)
        lines = [program.words(call, folder, container) for program in self.programs]
        words = lines[0]
        if self.runner is not None:
            processes = [program.processes for program in self.programs]
            words = self.runner.words(list(zip(processes, lines, strict=True)), call, folder)
        exit_value = start_command(words, call, folder, call.streams(), lines[0][0])
        self.exit_policy.check(exit_value, words, call.place)
        return exit_value


def working_folder(template: str | None, call: CallArguments) -> str:
    """Return the folder that a command of a call runs in, made if it was not there. Raises CommandError."""
    folder = os.path.abspath(call.text(template or "."))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{call.place}: working_dir={folder!r} cannot be made: {error.strerror}.") from error
    return folder


@dataclass(frozen=True, slots=True)
class DecafCommand:
    """A Decaf workflow: a script that writes the data flow, and the program made by it.

    Attributes
    ----------
    script, executor : str
        Templates.
    args : str or None
        See `CommandLine`.
    processes : Count
    """

    script: str
    executor: str = "executor.sh"
    args: str | None = None
    processes: Count = Count("1")
    working_dir: str | None = None
    exit_policy: ExitPolicy = ExitPolicy()

    def run(self, call: CallArguments, container: Container | None = None) -> int:
        """Run both for one call and return the exit value of the one that ended it. Raises CommandError."""
        folder = working_folder(self.working_dir, call)
        given = call.words() if self.args is None else call.split(self.args, folder)
        executor = call.text(self.executor)
        executor = executor if executor.startswith((os.sep, "." + os.sep)) else os.path.join(".", executor)
        with tempfile.NamedTemporaryFile("w", prefix="runmem-hosts-") as hosts:
            hosts.write("localhost\n")
            hosts.flush()
            count = str(self.processes.of(call))
            words = [sys.executable, call.text(self.script), "-n", count, "--hostfile", hosts.name]
            words += ["--args", " ".join(given)]
            exit_value = start_command(words, call, folder, call.streams())
            if exit_value == 0:
                words = [find_program(executor, folder, call.environment(), call.place)]
                streams = call.streams()
                appended = frozenset(("stdout", "stderr"))
                exit_value = start_command(words, call, folder, streams._replace(appended=appended))
        self.exit_policy.check(exit_value, words, call.place)
        return exit_value


@dataclass(frozen=True, slots=True)
class CompssCommand:
    """Another program of tasks, run by a command of PyCOMPSs where that is there, else by runmem.

    Attributes
    ----------
    app, runcompss, flags : str
        Templates.
    args : str or None
        See `CommandLine`.
    """

    app: str
    runcompss: str = "runcompss"
    flags: str = ""
    args: str | None = None
    working_dir: str | None = None
    exit_policy: ExitPolicy = ExitPolicy()

    def run(self, call: CallArguments, container: Container | None = None) -> int:
        """Run the program for one call and return its exit value. Raises CommandError."""
        folder = working_folder(self.working_dir, call)
        given = call.words() if self.args is None else call.split(self.args, folder)
        try:
            runner = [
                find_program(call.text(self.runcompss), folder, call.environment(), call.place),
                *call.split(self.flags, folder),
            ]
        except CommandError:
            runner = [sys.executable, "-m", "runmem"]
        words = [*runner, call.text(self.app), *given]
        exit_value = start_command(words, call, folder, call.streams())
        self.exit_policy.check(exit_value, words, call.place)
        return exit_value
