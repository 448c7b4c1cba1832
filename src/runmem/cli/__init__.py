"""The command line: a table of commands, one file each, and `main`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from runmem.errors import RunmemError
from runmem.standard_error import open_closed_streams, say

__all__ = ["COMMANDS", "main", "runmem"]

COMMANDS = {
    "run": "run a program; `runmem app.py` is short for it",
    "submit": "submit a program as a job of Slurm",
    "trial": "a command under several measuring methods, and which of them to trust",
    "report": "the memory of a run that was recorded",
    "metric": "reduce a run to a Measurement",
}


class _Commands(click.Group):
    """Imports a command's file only when the command is used; what is no command is a program to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"runmem.cli.{name}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in COMMANDS and args[0] not in ("--help", "-h", "--version"):
            if not args[0].startswith("-"):
                _check_is_program(args[0])
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _check_is_program(word: str) -> None:
    """Raise a UsageError if `word` is neither a command nor a file, and looks more like a command."""
    if os.path.lexists(word) or os.sep in word or "." in word:
        return
    close = get_close_matches(word, COMMANDS, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise click.UsageError(
        f"{word!r} is no command, and there is no program of that name here.{meant} The commands are "
        f"{', '.join(COMMANDS)}; a program is given by its path, such as {word}.py."
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="runmem", prog_name="runmem")
def runmem() -> None:
    """Run plain sequential Python as a task graph on Dask, and tell the true memory of every task and node.

    Put @task on the functions that may run in parallel, then start the program:

    \b
      runmem app.py                                run it on all cores
      runmem --python_memory_profile app.py        ... and measure memory
      runmem --workers 4 --worker_memory 2GiB app.py input.csv
      runmem report                                look at the newest run again
      runmem metric runmem_runs/app_01 --target app.f --package demo --metric Peak

    Options of runmem come before the program, the program's own arguments after it.
    `runmem run --help` lists the options.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: with the program's exit code, or 2 for what runmem itself cannot do."""
    open_closed_streams()
    try:
        code: Any = runmem.main(args=arguments, prog_name="runmem", standalone_mode=False)
    except click.exceptions.Abort:  # before a program began: from then on its run sees to it
        from runmem.execution.undisturbed import ignore_signals

        ignore_signals()
        say("runmem: ended by SIGINT")
        code = 130
    except click.ClickException as error:
        if sys.stderr is not None:
            with suppress(OSError):
                error.show()
        code = error.exit_code
    except RunmemError as error:
        say(f"runmem: error: {error}")
        code = error.exit_code
    except BrokenPipeError:
        code = 141
    sys.exit(code if isinstance(code, int) else 0)
