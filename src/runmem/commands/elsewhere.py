"""Tasks whose function runs in another Python: once in each process of an MPI, or in a container."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from runmem.commands.call_arguments import CallArguments, Count
from runmem.commands.command import MpiRunner, start_command, working_folder
from runmem.commands.containers import Container, ContainerCommand
from runmem.commands.contents import copy_contents
from runmem.commands.process import reason_of
from runmem.errors import ArgumentError, CommandError

__all__ = ["FunctionElsewhere", "Layout", "layouts_of"]

_SCRIPT = "function_process.py"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which items of a collection each process of an MPI gets: blocks, in turn."""

    block_count: int = 1
    block_length: int = 1
    stride: int = 1


@dataclass(frozen=True, slots=True)
class FunctionElsewhere:
    """Runs the function of a task in other processes; what the first one did to written arguments is taken over.

    Attributes
    ----------
    runner : MpiRunner or None
        None: there is one process, in a container.
    processes : Count
    working_dir : str or None
        See `Command`.
    layouts : tuple of (str, Layout)
        By the name of a parameter.
    """

    runner: MpiRunner | None = None
    processes: Count = Count("1")
    working_dir: str | None = None
    layouts: tuple[tuple[str, Layout], ...] = ()

    def run(self, call: CallArguments, container: Container | None = None) -> object:
        """Run the function for one call.

        Returns
        -------
        object
            What it returned: of several processes a list of that, by rank.

        Raises
        ------
        CommandError
            If the processes cannot be started, or one ended without a result.
        Exception
            What the function raised in one of them.
        """
        scaled = call.units() if self.runner is not None and self.runner.scales.lower() == "true" else 1
        count = self.processes.of(call) * max(1, scaled)
        folder = working_folder(self.working_dir, call)
        with tempfile.TemporaryDirectory(prefix="runmem-function-") as packed:
            self._pack(call, packed, count)
            words = [sys.executable if container is None else "python3", os.path.join(packed, _SCRIPT), packed]
            if container is not None:
                folders = [os.getcwd(), packed, *_program_folders(), *(os.path.dirname(path) for path in call.paths())]
                words = container.command(ContainerCommand(words, folder, folders, call.environment(), call.place))
            if self.runner is not None:
                words = self.runner.words([(self.processes, words)], call, folder)
            exit_value = start_command(words, call, folder)
            results = [_result(packed, rank) for rank in range(count)]
        for rank, result in enumerate(results):
            if result is not None and result[0] == "error":
                raise _error(result, rank, count, call)
        if exit_value or None in results:
            raise CommandError(
                f"{call.place}: {words[0]} {reason_of(exit_value)} without the results of all processes."
            )
        for place, value in results[0][2].items():  # type: ignore[index]
            _take_over(call, place, value)
        values = [result[1] for result in results if result is not None]
        return values if self.runner is not None and count > 1 else values[0]

    def _pack(self, call: CallArguments, folder: str, count: int) -> None:
        task = call.task
        written = [place for place, use in task.signature.uses(call.args, call.kwargs) if use.direction.writes]
        written = [place for place in written if not task.signature.use_of(task.signature.parameter_at(place)).is_path]
        names = task.signature.positional
        places = {
            name: names.index(name) if name in names[: len(call.args)] else name
            for name, _ in self.layouts
            if name in names[: len(call.args)] or name in call.kwargs
        }
        layouts = {
            places[name]: (layout.block_count, layout.block_length, layout.stride)
            for name, layout in self.layouts
            if name in places
        }
        about = {
            "version": list(sys.version_info[:2]), "path": _program_folders(), "processes": count, "layouts": layouts,
        }  # fmt: skip
        data = cloudpickle.dumps((task.function, call.args, call.kwargs, written))
        with open(os.path.join(folder, "call"), "wb") as file:
            pickle.dump(about, file, protocol=4)
            file.write(data)
        shutil.copy(Path(__file__).with_name(_SCRIPT), folder)
        shutil.copytree(Path(cloudpickle.__file__).parent, os.path.join(folder, "modules", "cloudpickle"))


def _program_folders() -> list[str]:
    """Return the folders of ``sys.path`` that are not part of this Python."""
    own = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    found = [os.path.realpath(path or os.getcwd()) for path in sys.path]
    return [
        path for path in dict.fromkeys(found)
        if os.path.isdir(path) and not any(path.startswith(prefix + os.sep) for prefix in own)
    ]  # fmt: skip


def _result(folder: str, rank: int) -> tuple[str, Any, Any] | None:
    try:
        with open(os.path.join(folder, f"result-{rank}"), "rb") as file:
            result: tuple[str, Any, Any] = pickle.load(file)
            return result
    except FileNotFoundError:
        return None
    except Exception as error:
        return "error", f"the result cannot be read ({type(error).__name__}: {error})", ""


def _error(result: tuple[str, Any, Any], rank: int, count: int, call: CallArguments) -> BaseException:
    """Return the exception of a process, with its traceback."""
    _, error, trace = result
    if not isinstance(error, BaseException):
        return CommandError(f"{call.place}: {error}.")
    where = f"in rank {rank} of {count}" if count > 1 else "in another process"
    error.add_note(f"raised {where}:\n{trace}".rstrip())
    return error


def _take_over(call: CallArguments, place: int | str, value: object) -> None:
    target = call.kwargs[place] if isinstance(place, str) else call.args[place]
    try:
        copy_contents(target, value)
    except TypeError as error:
        raise ArgumentError(
            f"{call.place}: parameter {call.task.signature.parameter_at(place)!r} is written in another process, and "
            f"{error}: return the new value."
        ) from error


def layouts_of(options: dict[str, Any]) -> Sequence[tuple[str, Layout]]:
    """Return the layouts among the keywords of `@mpi`: ``name_layout={block_count: 4, block_length: 2, stride: 1}``."""
    end = "_layout"
    return [
        (name.removesuffix(end), Layout(**{key: int(number) for key, number in value.items()}))
        for name, value in options.items()
        if name.endswith(end) and isinstance(value, dict)
    ]
