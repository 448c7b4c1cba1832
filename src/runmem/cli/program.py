"""Run the user's program in this process as Python would, and tell the exit code that Python would give."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from runmem.cli.tracebacks import print_uncaught
from runmem.errors import SettingError

__all__ = ["Ended", "Script", "Terminated", "load_script", "run_script", "exit_code_of", "terminable"]


@dataclass(frozen=True)
class Script:
    """A program that was read and compiled.

    Attributes
    ----------
    path : Path
        As the user named it: a file, or a folder with a ``__main__.py``.
    file : Path
        Absolute path of the file that runs.
    source : bytes
    code : code object
    """

    path: Path
    file: Path
    source: bytes
    code: types.CodeType

    @property
    def import_folder(self) -> str:
        """What Python puts first into ``sys.path``: the program's folder (symbolic links followed), or itself."""
        return str(self.path.absolute() if self.path.is_dir() else Path(os.path.realpath(self.file)).parent)


def load_script(path: Path) -> Script:
    """Read and compile a program.

    Raises
    ------
    SettingError
        If the file is missing, a folder without ``__main__.py``, or not Python text.
    SyntaxError
        If it is Python text with a mistake.
    """
    file = path / "__main__.py" if path.is_dir() else path
    try:
        source = file.read_bytes()
    except FileNotFoundError:
        if path.is_dir():
            raise SettingError(f"{str(path)!r} is a folder without a __main__.py: name a program in it.") from None
        raise SettingError(
            f"there is no program {str(path)!r} here ({Path.cwd()}). Give the path of a Python file."
        ) from None
    except OSError as error:
        raise SettingError(f"the program {str(path)!r} cannot be read: {error.strerror or error}.") from error
    if b"\0" in source:
        raise SettingError(f"{str(path)!r} is not a Python program: it is a binary file.")
    try:
        code = compile(source, os.path.abspath(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        if file.suffix not in (".py", "") or "codec can't decode" in str(error) or "encoding problem" in str(error):
            raise SettingError(f"{str(path)!r} is not a Python program: {error}.") from None
        raise
    return Script(path, Path(os.path.abspath(file)), source, code)


class Ended(NamedTuple):
    """How a program ended: its exit code, and whether it came to an end of its own (not by an error or a signal)."""

    exit_code: int
    orderly: bool


class Terminated(SystemExit):
    """A signal asks the program to end."""


def run_script(script: Script, arguments: Sequence[str], whole_tracebacks: bool = False) -> Ended:
    """Run a program as ``__main__`` and return how it ended; its traceback is printed as Python does.

    Parameters
    ----------
    arguments : sequence of str
        What the program finds in ``sys.argv[1:]``.
    whole_tracebacks : bool
        Whether the frames of runmem and Dask between two of the program's are printed too.
    """
    module = types.ModuleType("__main__")
    # Named by what a spawned process is to run instead (see `spawned`).
    spec = ModuleSpec("runmem.cli.spawned", None)
    module.__dict__.update(__file__=str(script.file), __builtins__=builtins, __cached__=None, __spec__=spec)
    os.environ["RUNMEM_PROGRAM"] = str(script.file)
    sys.modules["__main__"] = module
    if sys.path and sys.path[0] == os.path.dirname(os.path.realpath(sys.argv[0])):
        del sys.path[0]  # the folder of the `runmem` command is no business of the program's
    sys.argv = [str(script.path), *arguments]
    sys.path.insert(0, script.import_folder)
    try:
        exec(script.code, module.__dict__)
    except SystemExit as request:
        return Ended(exit_code_of(request), not isinstance(request, Terminated))
    except BaseException as error:
        print_uncaught(error, whole_tracebacks)
        return Ended(exit_code_of(error), False)
    finally:
        _flush()
    return Ended(0, True)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of an exception that ends a program, as Python has it.

    The text of a ``sys.exit("text")`` goes to standard error and means 1.
    """
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what runs inside by Terminated(128 + signal), so that runmem can tidy up.

    A program that has a handler of its own, or that ignores the signal (``nohup``), keeps that.
    """

    def end(number: int, frame: Any) -> None:
        raise Terminated(128 + number)

    signals = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)
