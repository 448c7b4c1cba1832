"""Run the user's program in this process as Python would, and tell the exit code that Python would give."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from runmem.errors import SettingError

__all__ = ["load_program", "run_program"]


def load_program(path: Path) -> types.CodeType:
    """Read and compile a program.

    Raises
    ------
    SettingError
        If the file is missing, a folder, or not Python text.
    SyntaxError
        If it is Python text with a mistake.
    """
    if path.is_dir():
        path = path / "__main__.py"
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise SettingError(f"there is no program {str(path)!r} here ({Path.cwd()}).") from None
    except OSError as error:
        raise SettingError(f"the program {str(path)!r} cannot be read: {error.strerror or error}.") from error
    if b"\0" in source:
        raise SettingError(f"{str(path)!r} is not a Python program: it is a binary file.")
    try:
        return compile(source, os.path.abspath(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        if path.suffix not in (".py", "") or "codec can't decode" in str(error) or "encoding problem" in str(error):
            raise SettingError(f"{str(path)!r} is not a Python program: {error}.") from None
        raise


def run_program(code: types.CodeType, path: Path, arguments: Sequence[str]) -> int:
    """Run a compiled program as ``__main__`` and return its exit code; its traceback is printed as Python does.

    Parameters
    ----------
    arguments : sequence of str
        What the program finds in ``sys.argv[1:]``.
    """
    module = types.ModuleType("__main__")
    # Named by what a spawned process is to run instead (see `spawned`).
    spec = ModuleSpec("runmem.cli.spawned", None)
    module.__dict__.update(__file__=str(path), __builtins__=builtins, __cached__=None, __spec__=spec)
    os.environ["RUNMEM_PROGRAM"] = os.path.abspath(path)
    sys.modules["__main__"] = module
    sys.argv = [str(path), *arguments]
    sys.path[0:0] = [str(path.absolute().parent)]
    with _terminable():
        try:
            exec(code, module.__dict__)
        except SystemExit as request:
            return _code_of(request)
        except KeyboardInterrupt:
            _print_traceback()
            return 128 + signal.SIGINT
        except BaseException:
            _print_traceback()
            return 1
        finally:
            _flush()
    return 0


def _code_of(request: SystemExit) -> int:
    """Return the exit code of a `sys.exit`, as Python has it: text goes to standard error and means 1."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    print(request.code, file=sys.stderr)
    return 1


def _print_traceback() -> None:
    """Print the exception from the program's first line on: the frames above it are runmem's."""
    kind, error, trace = sys.exc_info()
    if error is not None and trace is not None:
        sys.excepthook(kind or type(error), error.with_traceback(trace.tb_next), trace.tb_next)


def print_exception(error: BaseException) -> None:
    """Print an exception with its traceback on standard error."""
    traceback.print_exception(error, file=sys.stderr)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program with 128 + signal, after runmem has ended what it started."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signals = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)
