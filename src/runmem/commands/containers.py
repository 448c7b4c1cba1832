"""Containers that commands and functions run in."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runmem.commands.process import find_program
from runmem.errors import CommandError

__all__ = ["ENGINES", "Container", "ContainerCommand"]

_PASSED = ("COMPSS_", "OMP_NUM_THREADS")  # a container has an environment of its own


class ContainerCommand(NamedTuple):
    """What a container is to run.

    Attributes
    ----------
    words : list of str
    folder : str
        Where it runs.
    folders : list of str
        What it must see besides, under the same paths.
    environment : mapping
    where : str
        Names the task in errors.
    """

    words: Sequence[str]
    folder: str
    folders: Sequence[str]
    environment: Mapping[str, str]
    where: str


def _docker(options: Sequence[str], image: str, command: ContainerCommand) -> list[str]:
    mounts = [word for folder in command.folders for word in ("-v", f"{folder}:{folder}")]
    owner = ["--user", f"{os.getuid()}:{os.getgid()}"]  # of the files that it makes
    first = ["run", "--rm", "-i", "--init", *owner, *mounts, "-w", command.folder]
    return [*first, *_environment(command), *options, image, *command.words]


def _udocker(options: Sequence[str], image: str, command: ContainerCommand) -> list[str]:
    mounts = [word for folder in command.folders for word in ("-v", f"{folder}:{folder}")]
    first = ["run", *mounts, "-w", command.folder]
    return [*first, *_environment(command), *options, image, *command.words]


def _singularity(options: Sequence[str], image: str, command: ContainerCommand) -> list[str]:
    mounts = [word for folder in command.folders for word in ("--bind", folder)]
    return ["exec", *mounts, "--pwd", command.folder, *options, image, *command.words]


def _environment(command: ContainerCommand) -> list[str]:
    passed = {name: value for name, value in command.environment.items() if name.startswith(_PASSED)}
    return [word for name, value in passed.items() for word in ("-e", f"{name}={value}")]


ENGINES: dict[str, tuple[tuple[str, ...], Callable[[Sequence[str], str, ContainerCommand], list[str]]]] = {
    "DOCKER": (("docker",), _docker),
    "PODMAN": (("podman",), _docker),
    "SINGULARITY": (("singularity", "apptainer"), _singularity),
    "APPTAINER": (("apptainer", "singularity"), _singularity),
    "UDOCKER": (("udocker",), _udocker),
}
"""By engine the programs that it may be called by, the first one that is there, and their arguments."""


@dataclass(frozen=True, slots=True)
class Container:
    """An engine and an image, as `@container` names them; each may be an environment variable."""

    engine: str
    image: str
    options: str = ""

    def command(self, command: ContainerCommand) -> list[str]:
        """Return the command that runs another one in the container.

        Raises
        ------
        CommandError
            If the engine is unknown, or not there.
        """
        engine = os.path.expandvars(self.engine).upper()
        if engine not in ENGINES:
            raise CommandError(
                f"{command.where}: {engine!r} is not a container engine that runmem knows: {', '.join(ENGINES)}."
            )
        programs, arguments = ENGINES[engine]
        path = command.environment.get("PATH")
        name = next((name for name in programs if shutil.which(name, path=path)), programs[0])
        program = find_program(name, command.folder, command.environment, command.where)
        folders = list(dict.fromkeys(f for f in (command.folder, *command.folders) if f != os.sep and os.path.isdir(f)))
        options = shlex.split(os.path.expandvars(self.options))
        return [program, *arguments(options, os.path.expandvars(self.image), command._replace(folders=folders))]
