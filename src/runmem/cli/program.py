"""Run the user's program in this process as Python would, and tell the exit code that Python would give."""

from __future__ import annotations

import builtins
import os
import signal
import stat
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from runmem.cli.termination import Terminated
from runmem.cli.tracebacks import print_uncaught
from runmem.clusters.child_imports import exclude_from_workers
from runmem.dask_logging import import_dask
from runmem.errors import SettingError
from runmem.reading import read_file, short_repr
from runmem.shadowed import ReservedNameError, Shadowing, current_shadowing, shadow
from runmem.standard_error import say

__all__ = [
    "ProgramEnd", "Module", "NoSuchModuleError", "Script", "exit_code_of", "load_program", "load_script",
    "run_program",
]  # fmt: skip


@dataclass(frozen=True)
class Script:
    """A program that was read and compiled.

    Attributes
    ----------
    path : Path
        As the user named it: a file, or a folder with a ``__main__.py``.
    argument : str
        The same, letter by letter.
    file : Path
        Absolute path of the file that runs.
    source : bytes
    code : code object
    spec : ModuleSpec or None
        How Python found the ``__main__.py`` of a folder; None for a file.
    """

    path: Path
    argument: str
    file: str
    source: bytes
    code: types.CodeType
    spec: ModuleSpec | None = None

    @property
    def name(self) -> str:
        """Name of the program, for its run directory."""
        return self.path.absolute().stem  # of `.`, too

    @property
    def import_folder(self) -> str:
        """What Python puts first into ``sys.path``: the program's folder (symbolic links followed), or itself."""
        return os.path.dirname(os.path.realpath(self.file)) if self.spec is None else _from_here(self.argument)

    imported = ()

    def begin(self, main: types.ModuleType) -> types.CodeType:
        """Make `main` the module that Python makes of this program, and return what is to run in it."""
        if self.spec is not None:
            _describe(main, self.spec)
        else:
            main.__dict__.update(
                __file__=self.file, __cached__=None, __loader__=SourceFileLoader("__main__", self.file)
            )
        return self.code


@dataclass(frozen=True)
class Module:
    """A program that is named as a module, or as a package with a ``__main__.py``, for ``-m``.

    Attributes
    ----------
    argument : str
        Dotted name.
    """

    argument: str

    source = None  # not known before its package was imported, which is the program's business

    @property
    def name(self) -> str:
        """Name of the program, for its run directory."""
        return self.argument

    @property
    def import_folder(self) -> str:
        """What Python puts first into ``sys.path``: the folder that it was started in."""
        return os.getcwd()

    @property
    def imported(self) -> tuple[str, ...]:
        """What Python imports to begin it, or looks for."""
        return (self.argument.partition(".")[0],)

    def begin(self, main: types.ModuleType) -> types.CodeType:
        """Make `main` the module that ``python -m`` makes of it, and return what is to run in it.

        Raises
        ------
        NoSuchModuleError
            If there is no such module, or one that cannot be run.
        """
        spec = _spec_of(self.argument)
        get_code = getattr(spec.loader, "get_code", None)
        code: types.CodeType | None = None if get_code is None else get_code(spec.name)
        if code is None:
            raise NoSuchModuleError(f"-m {self.argument}: there is no Python code in {spec.origin or spec.name}.")
        _describe(main, spec)
        sys.argv[0] = str(spec.origin)
        return code


class NoSuchModuleError(SettingError):
    """There is no module of the name that was given with ``-m``, or it cannot be run."""


def _describe(main: types.ModuleType, spec: ModuleSpec) -> None:
    """Give a main module the attributes that Python's `runpy` gives to what it found."""
    main.__dict__.update(
        __file__=spec.origin, __cached__=spec.cached, __loader__=spec.loader, __package__=spec.parent, __spec__=spec
    )


def _spec_of(name: str) -> ModuleSpec:
    """Find a module to run, importing the packages above it; of a package its ``__main__``."""
    told = name if len(name) <= 100 else f"{name[:60]}... ({len(name)} characters)"
    if name.endswith(".py"):
        raise NoSuchModuleError(
            f"-m takes the name of a module: write -m {told.removesuffix('.py')}, or {told} without -m."
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise NoSuchModuleError(f"-m {told}: expected the name of a module, such as package.module.")
    package = name.rpartition(".")[0]
    try:
        if package:
            __import__(package)
        spec = find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the package itself imports what there is not
        spec = None
    if spec is None:
        raise NoSuchModuleError(
            f"there is no module {told!r} to be run with -m: neither in {os.getcwd()} nor where Python finds others."
        )
    if spec.submodule_search_locations is None:
        return spec
    if name.endswith(".__main__"):
        raise NoSuchModuleError(f"-m {name}: this is a package, which cannot be run in place of a module.")
    try:
        return _spec_of(f"{name}.__main__")
    except NoSuchModuleError:
        raise NoSuchModuleError(f"-m {name}: the package has no __main__.py: name one of its modules.") from None


def load_program(argument: str, as_module: bool = False) -> Script | Module:
    """Return the program of that path, or (`as_module`) of that dotted name; raises what `load_script` does."""
    return Module(argument) if as_module else load_script(argument)


def _from_here(path: str) -> str:
    """Return an absolute path as Python makes it of one on its command line: nothing in it is resolved."""
    return os.path.join(os.getcwd(), path)


def load_script(path: str | Path) -> Script:
    """Read and compile a program.

    Raises
    ------
    SettingError
        If the file is missing, a folder without ``__main__.py``, or not Python text.
    SyntaxError, MemoryError, RecursionError
        If it is Python text with a mistake, or nested more deeply than Python compiles.
    """
    argument, path = str(path), Path(path)
    spec: ModuleSpec | None = None
    file = _from_here(argument)
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a name that is too long, or that goes through a file
        raise SettingError(f"the program {short_repr(argument)} cannot be read: {error.strerror or error}.") from error
    if is_folder:
        spec = PathFinder.find_spec("__main__", [file])
        if spec is None or not spec.has_location or spec.origin is None:
            raise SettingError(f"{argument!r} is a folder without a __main__.py: name a program in it.")
        file = spec.origin
    try:
        source = _content(file)
    except FileNotFoundError:
        raise SettingError(
            f"there is no program {short_repr(argument)} here ({Path.cwd()}). Give the path of a Python file."
        ) from None
    except OSError as error:
        raise SettingError(f"the program {short_repr(argument)} cannot be read: {error.strerror or error}.") from error
    if b"\0" in source:
        raise SettingError(f"{argument!r} is not a Python program: it is a binary file.")
    try:
        code = compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        suffix = Path(file).suffix
        if suffix not in (".py", "") or "codec can't decode" in str(error) or "encoding problem" in str(error):
            raise SettingError(f"{argument!r} is not a Python program: {error}.") from None
        raise
    return Script(path, argument, file, source, code, spec)


def _content(file: str) -> bytes:
    """Return the content of a program: a file, or what comes through a pipe such as the shell's ``<(...)``."""
    if stat.S_ISFIFO(os.stat(file).st_mode):
        return Path(file).read_bytes()
    return read_file(file)


class ProgramEnd(NamedTuple):
    """How a program ended: its exit code, and whether in order: not by an error, an exit code of one, or a signal.

    `by_signal`: whether a signal ended it.
    """

    exit_code: int
    orderly: bool
    by_signal: bool = False


def run_program(program: Script | Module, arguments: Sequence[str], whole_tracebacks: bool = False) -> ProgramEnd:
    """Run a program as ``__main__`` and return how it ended; its traceback is printed as Python does.

    Parameters
    ----------
    arguments : sequence of str
        What the program finds in ``sys.argv[1:]``.
    whole_tracebacks : bool
        Whether the frames of runmem and Dask between two of the program's are printed too.
    """
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    _forget_own_folder()
    sys.argv = ["-m" if isinstance(program, Module) else program.argument, *arguments]
    try:
        _import_from_its_folder(program)
        code = program.begin(main)
        exec(code, main.__dict__)
    except SystemExit as request:
        return _by_request(request)
    except (NoSuchModuleError, ReservedNameError) as error:
        say(f"runmem: error: {error}")
        return ProgramEnd(error.exit_code, False)
    except BaseException as error:
        try:
            print_uncaught(error, whole_tracebacks)
        except SystemExit as request:  # of the hook of the program
            return _by_request(request)
        return ProgramEnd(exit_code_of(error), False, type(error) is KeyboardInterrupt)
    finally:
        _flush()
    return ProgramEnd(0, True)


def _import_from_its_folder(program: Script | Module) -> None:
    """Put the program's folder first into ``sys.path``; only the program finds what has a library's name there."""
    # `python -P -m runmem`, as in a job, means runmem's own start; the variable means the program's, too.
    is_folder = isinstance(program, Script) and program.spec is not None
    if not is_folder and os.environ.get("PYTHONSAFEPATH"):
        return
    folder = program.import_folder
    shadow(Shadowing(folder, program.imported), import_dask)
    if current_shadowing() is not None:
        exclude_from_workers(folder)
    sys.path.insert(0, folder)


def _by_request(request: SystemExit) -> ProgramEnd:
    exit_code = exit_code_of(request)
    terminated = issubclass(type(request), Terminated)  # `isinstance` asks the exception, too
    return ProgramEnd(exit_code, exit_code == 0 and not terminated, terminated)


def _forget_own_folder() -> None:
    """Take out of ``sys.path`` what Python has put first for runmem's own start: it is no business of the program's."""
    if not sys.path:
        return
    command = os.path.dirname(os.path.realpath(sys.argv[0]))  # of `runmem`, or with `python -m runmem` this package
    here = sys.path[0] == os.getcwd() and os.path.dirname(os.path.dirname(os.path.dirname(__file__))) != os.getcwd()
    if sys.path[0] == command or (here and command == os.path.dirname(os.path.dirname(os.path.realpath(__file__)))):
        del sys.path[0]


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of an exception that ends a program, as Python has it.

    The text of a ``sys.exit("text")`` goes to standard error and means 1.
    """
    if type(error) is KeyboardInterrupt:  # a class below it is an error like others
        return 128 + signal.SIGINT
    if not issubclass(type(error), SystemExit):
        return 1
    code: Any = error
    with suppress(BaseException):  # its class may refuse: it is what is printed then
        code = error.code  # type: ignore[attr-defined]
    if code is None:
        return 0
    if issubclass(type(code), int):
        number: int = int.__int__(code)
        return number & 0xFF if -(2**63) <= number < 2**63 else 0xFF
    text = ""
    with suppress(BaseException):  # as above
        text = str(code)
    if sys.stderr is not None:
        with suppress(Exception):
            print(text, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, full, or the program's own
            stream.flush()
