"""Notice an option of runmem that was written after the program, where it goes to the program instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from runmem.cli.program import Module, Script

__all__ = ["options_after_program"]


def options_after_program(command: click.Command, program: Script | Module, arguments: Sequence[str]) -> Iterator[str]:
    """Yield a line for each argument of the program that looks like an option of `command`.

    A program may have an option of the same name: what its source mentions is its own. Of a module (``-m``) that is not
    known.
    """
    if program.source is None:
        return
    ours = {name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts}
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if name in ours and name.lstrip("-").encode() not in program.source:
            yield (
                f"{name} stands after the program, so it went to the program. Options of runmem come first: "
                f"runmem {argument} ... {program.argument}"
            )
