"""The command line: the table of commands, one file each, and `main`."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from runmem.errors import RunmemError
from runmem.standard_error import as_sentence, open_closed_streams, say
from runmem.start_signals import restore_python_signals
from runmem.table import printable

__all__ = ["COMMANDS", "main", "runmem"]

_MAX_ARGUMENT, _ARGUMENT_START, _ARGUMENT_END = 300, 200, 70  # characters of an argument in a message
_MAX_MESSAGE = 1500  # characters

COMMANDS = {
    "run": "run a program; short form: `runmem app.py`",
    "submit": "submit a program as a Slurm job",
    "trial": "compare memory measuring methods on one command",
    "report": "print and draw the memory of a recorded run",
    "metric": "compute metrics of a recorded run",
}


class _Commands(click.Group):
    """Imports the file of a command at its first use; a word that is not a command is a program to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"runmem.cli.{name}").command
        if name != "run":  # its imports are slow, so it does this itself
            restore_python_signals()
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = args or ["--help"]
        if args[0] not in COMMANDS and args[0] not in ("--help", "-h", "--version"):
            if not args[0].startswith("-"):
                _check_is_program(args[0])
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _check_is_program(word: str) -> None:
    """Raise a UsageError if `word` is neither a command nor a file, and does not look like a path."""
    if os.path.lexists(word) or os.sep in word or "." in word:
        return
    close = get_close_matches(word, COMMANDS, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    raise click.UsageError(
        f"{word!r} is neither a command nor a file.{suggestion} The commands are {', '.join(COMMANDS)}; a program is "
        f"given by its path, such as {word}.py."
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="runmem", prog_name="runmem")
def runmem() -> None:
    """Run sequential Python as a task graph on Dask, and measure the memory of every task and node.

    Put @task on the functions that may run in parallel, then start the program:

    \b
      runmem app.py                                run it on all cores
      runmem --python_memory_profile app.py        ... and measure memory
      runmem --workers 4 --worker_memory 2GiB app.py input.csv
      runmem report                                print the newest run again
      runmem metric runmem_runs/app_01 --target app.f --package demo --metric Peak

    Options of runmem come before the program, arguments of the program after it.
    `runmem run --help` lists the options.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: with the program's exit code, or 2 for an error of runmem."""
    open_closed_streams()
    if (odd := next((word for word in arguments or () if not _is_possible(word)), None)) is not None:
        _print_error(f"{_shortened(odd)!r} cannot be an argument of a command.", arguments)
        sys.exit(2)
    code: object
    try:
        code = runmem.main(args=arguments, prog_name="runmem", standalone_mode=False)
    except click.exceptions.Abort:  # before the start of a program; afterwards its run handles signals
        from runmem.execution.signals import ignore_signals

        ignore_signals()
        say("runmem: ended by SIGINT")
        code = 130
    except click.UsageError as error:
        help_text = f" See `{error.ctx.command_path} --help`." if error.ctx is not None else ""
        _print_error(f"{as_sentence(_usage_error(error, arguments))}{help_text}", arguments)
        code = error.exit_code
    except click.ClickException as error:
        _print_error(error.format_message(), arguments)
        code = error.exit_code
    except RunmemError as error:
        _print_error(str(error), arguments)
        code = error.exit_code
    except BrokenPipeError:
        code = 141
    except OSError as error:  # an error of runmem: those of the program are printed as its tracebacks
        _print_error(_system_error(error), arguments)
        code = 2
    except MemoryError:
        _print_error("out of memory.", arguments)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: click.UsageError, arguments: Sequence[str] | None) -> str:
    if not isinstance(error, click.NoSuchOption):
        return error.format_message()
    from runmem.cli.unknown_options import unknown_option

    others = (import_module(f"runmem.cli.{name}").command for name in COMMANDS)
    return unknown_option(error, sys.argv[1:] if arguments is None else arguments, others)


def _is_possible(word: str) -> bool:
    """Return True if a command line can contain `word`; a caller of `main` may pass anything."""
    try:
        return b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        return False


def _system_error(error: OSError) -> str:
    """Return the message of a system error with its file and a remedy."""
    remedy = {
        errno.EMFILE: "; allow more (`ulimit -n 1024`)",
        errno.ENOSPC: "; free some space",
        errno.ENAMETOOLONG: "; a name may have 255 bytes, and a path 4096",
    }.get(error.errno or 0, "")
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror or error}{remedy}."


def _print_error(message: str, arguments: Sequence[str] | None) -> None:
    """Print an error message with long or unprintable arguments shortened to one line."""
    given = sys.argv[1:] if arguments is None else arguments
    values = (word.partition("=")[2] for word in given)
    for argument in sorted({*given, *values}, key=len, reverse=True):
        if argument and (len(argument) > _MAX_ARGUMENT or not argument.isprintable()):
            message = message.replace(argument, _shortened(argument))
    message = re.sub(rf"\S{{{_MAX_ARGUMENT + 1},}}", lambda found: _shortened(found[0]), message)
    if len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE // 2]} ... {message[-_MAX_MESSAGE // 2 :]}"
    say("runmem: error: " + "\n".join(map(printable, message.split("\n"))))


def _shortened(text: str) -> str:
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_MAX_ARGUMENT])
    if len(text) <= _MAX_ARGUMENT and len(escaped) <= _MAX_ARGUMENT:
        return escaped
    return f"{escaped[:_ARGUMENT_START]}...{printable(text[-_ARGUMENT_END:])} ({len(text)} characters)"
