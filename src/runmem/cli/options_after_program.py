"""Finds options of runmem written after the program's name, which go to the program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from runmem.cli.program import Module, Script

__all__ = ["options_after_program"]


def options_after_program(command: click.Command, program: Script | Module, arguments: Sequence[str]) -> Iterator[str]:
    """Yield a message for each argument of the program that looks like an option of `command`.

    Options mentioned in the program's source are its own. The source of a module (``-m``) is unknown.
    """
    if program.source is None:
        return
    options = {name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts}
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if name in options and name.lstrip("-").encode() not in program.source:
            yield (
                f"{name} comes after the program, so it is an argument of the program. To give it to runmem: "
                f"runmem {argument} ... {program.argument}"
            )
