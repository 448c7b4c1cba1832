"""The command line: a table of commands, one file each, and `main`."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from runmem.errors import RunmemError
from runmem.standard_error import open_closed_streams, say
from runmem.start_signals import restore_python_signals

__all__ = ["COMMANDS", "main", "runmem"]

_MOST_SHOWN, _BEGIN_SHOWN, _END_SHOWN = 300, 200, 70  # characters of what was given
_MOST_TOLD = 1500

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
        if name != "run":  # which is long at its imports
            restore_python_signals()
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
    if (odd := next((word for word in arguments or () if not _can_be_given(word)), None)) is not None:
        _tell(f"{_abridged(odd)!r} cannot be an argument: no file and no variable can hold it.", arguments)
        sys.exit(2)
    try:
        code: Any = runmem.main(args=arguments, prog_name="runmem", standalone_mode=False)
    except click.exceptions.Abort:  # before a program began: from then on its run sees to it
        from runmem.execution.signals import ignore_signals

        ignore_signals()
        say("runmem: ended by SIGINT")
        code = 130
    except click.UsageError as error:
        help_text = f" See `{error.ctx.command_path} --help`." if error.ctx is not None else ""
        _tell(f"{error.format_message().rstrip('.')}.{help_text}", arguments)
        code = error.exit_code
    except click.ClickException as error:
        _tell(error.format_message(), arguments)
        code = error.exit_code
    except RunmemError as error:
        _tell(str(error), arguments)
        code = error.exit_code
    except BrokenPipeError:
        code = 141
    except OSError as error:  # of the machine, not of the program, whose own are told where it runs
        _tell(_of_the_machine(error), arguments)
        code = 2
    except MemoryError:
        _tell("there is not enough memory for that.", arguments)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _can_be_given(word: str) -> bool:
    """Tell whether a command line can hold `word`; one that a program makes in Python may hold anything."""
    try:
        return b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        return False


def _of_the_machine(error: OSError) -> str:
    """Say what the machine refused, with the file it was about."""
    remedy = {
        errno.EMFILE: "; allow more (`ulimit -n 1024`)",
        errno.ENOSPC: "; make room",
        errno.ENAMETOOLONG: "; a name may have 255 bytes, and a path 4096",
    }.get(error.errno or 0, "")
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror or error}{remedy}."


def _tell(message: str, arguments: Sequence[str] | None) -> None:
    """Print an error; what was given is shown in one line, and its middle left out where it is long."""
    given = sys.argv[1:] if arguments is None else arguments
    values = (word.partition("=")[2] for word in given)
    for argument in sorted({*given, *values}, key=len, reverse=True):
        if argument and (len(argument) > _MOST_SHOWN or not argument.isprintable()):
            message = message.replace(argument, _abridged(argument))
    message = re.sub(rf"\S{{{_MOST_SHOWN + 1},}}", lambda found: _abridged(found[0]), message)
    if len(message) > _MOST_TOLD:
        message = f"{message[: _MOST_TOLD // 2]} ... {message[-_MOST_TOLD // 2 :]}"
    say(f"runmem: error: {_printable(message)}")


def _abridged(text: str) -> str:
    whole = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_MOST_SHOWN])
    if len(text) <= _MOST_SHOWN and len(whole) <= _MOST_SHOWN:
        return whole
    end = "".join(c if c.isprintable() else "?" for c in text[-_END_SHOWN:])
    return f"{whole[:_BEGIN_SHOWN]}...{end} ({len(text)} characters)"


def _printable(text: str) -> str:
    """Return `text` with its line breaks, and without what else would move the cursor of a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
