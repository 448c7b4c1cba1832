"""Runs the user's program in this process as Python would, and returns the exit code that Python would return."""

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
from typing import NamedTuple

from runmem.cli.termination import Terminated
from runmem.cli.tracebacks import print_uncaught
from runmem.clusters.child_imports import exclude_from_workers
from runmem.dask_logging import import_dask
from runmem.errors import COMPSsException, RunmemError, SettingError
from runmem.reading import read_file, short_repr
from runmem.shadowed import ReservedNameError, Shadowing, current_shadowing, shadow
from runmem.standard_error import say

__all__ = [
    "Module",
    "NoSuchModuleError",
    "ProgramEnd",
    "Script",
    "exit_code_of",
    "load_program",
    "load_script",
    "run_program",
]


@dataclass(frozen=True)
class Script:
    """A program given by its path, read and compiled.

    Attributes
    ----------
    path : Path
        File, or folder with a ``__main__.py``, as given by the user.
    argument : str
        The path exactly as typed.
    file : str
        Absolute path of the main file.
    source : bytes
    code : code object
    spec : ModuleSpec or None
        Spec of the ``__main__.py`` of a folder; None for a file.
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
        return self.path.absolute().stem  # absolute, because `.` has no name

    @property
    def import_folder(self) -> str:
        """First entry of ``sys.path`` in Python: the folder of a file, with symbolic links resolved; or the folder."""
        return os.path.dirname(os.path.realpath(self.file)) if self.spec is None else _absolute(self.argument)

    first_imports = ()

    def set_up(self, main: types.ModuleType) -> types.CodeType:
        """Give `main` the attributes of Python's main module, and return the code to run in it."""
        if self.spec is not None:
            _set_attributes(main, self.spec)
        else:
            main.__dict__.update(
                __file__=self.file, __cached__=None, __loader__=SourceFileLoader("__main__", self.file)
            )
        return self.code


@dataclass(frozen=True)
class Module:
    """A program given by name (``-m``): a module, or a package with a ``__main__.py``.

    Attributes
    ----------
    argument : str
        Dotted name.
    """

    argument: str

    source = None  # unknown before its package is imported, which must happen in the running program

    @property
    def name(self) -> str:
        """Name of the program, for its run directory."""
        return self.argument

    @property
    def import_folder(self) -> str:
        """First entry of ``sys.path`` in Python: the current folder at the start."""
        return os.getcwd()

    @property
    def first_imports(self) -> tuple[str, ...]:
        """Top-level package that Python imports to start the program."""
        return (self.argument.partition(".")[0],)

    def set_up(self, main: types.ModuleType) -> types.CodeType:
        """Give `main` the attributes of the main module of ``python -m``, and return the code to run in it.

        Raises
        ------
        NoSuchModuleError
            If the module does not exist or cannot be run.
        """
        spec = _spec_of(self.argument)
        get_code = getattr(spec.loader, "get_code", None)
        code: types.CodeType | None = None if get_code is None else get_code(spec.name)
        if code is None:
            raise NoSuchModuleError(f"-m {self.argument}: {spec.origin or spec.name} has no Python code.")
        _set_attributes(main, spec)
        sys.argv[0] = str(spec.origin)
        return code


class NoSuchModuleError(SettingError):
    """The module given with ``-m`` does not exist or cannot be run."""


def _set_attributes(main: types.ModuleType, spec: ModuleSpec) -> None:
    """Set the attributes of a main module as `runpy` does."""
    main.__dict__.update(
        __file__=spec.origin, __cached__=spec.cached, __loader__=spec.loader, __package__=spec.parent, __spec__=spec
    )


def _spec_of(name: str) -> ModuleSpec:
    """Find a module, or the ``__main__`` of a package, importing its parent packages."""
    short = name if len(name) <= 100 else f"{name[:60]}... ({len(name)} characters)"
    if name.endswith(".py"):
        raise NoSuchModuleError(
            f"-m takes the name of a module: write -m {short.removesuffix('.py')}, or {short} without -m."
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise NoSuchModuleError(f"-m {short}: expected the name of a module, such as package.module.")
    package = name.rpartition(".")[0]
    try:
        if package:
            __import__(package)
        spec = find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # an import inside the package failed
        spec = None
    if spec is None:
        raise NoSuchModuleError(
            f"-m: there is no module {short!r}, neither in {os.getcwd()} nor in the rest of sys.path."
        )
    if spec.submodule_search_locations is None:
        return spec
    if name.endswith(".__main__"):
        raise NoSuchModuleError(f"-m {name}: this is a package, and only a module can be run by this name.")
    try:
        return _spec_of(f"{name}.__main__")
    except NoSuchModuleError:
        raise NoSuchModuleError(f"-m {name}: the package has no __main__.py: name one of its modules.") from None


def load_program(argument: str, as_module: bool = False) -> Script | Module:
    """Return the program with this path, or (`as_module`) this dotted name. Raises as `load_script`."""
    return Module(argument) if as_module else load_script(argument)


def _absolute(path: str) -> str:
    """Make a path absolute without resolving links or dots, as Python does on its command line."""
    return os.path.join(os.getcwd(), path)


def load_script(path: str | Path) -> Script:
    """Read and compile a program.

    Raises
    ------
    SettingError
        If the file is missing, a folder without ``__main__.py``, or not Python text.
    SyntaxError, MemoryError, RecursionError
        If it does not compile, or is nested too deeply for Python.
    """
    argument, path = str(path), Path(path)
    spec: ModuleSpec | None = None
    file = _absolute(argument)
    try:
        is_folder = path.is_dir()
    except OSError as error:  # the name is too long, or a parent is a file
        raise SettingError(f"the program {short_repr(argument)} cannot be read: {error.strerror or error}.") from error
    if is_folder:
        spec = PathFinder.find_spec("__main__", [file])
        if spec is None or not spec.has_location or spec.origin is None:
            raise SettingError(f"{argument!r} is a folder without a __main__.py: give the path of a program in it.")
        file = spec.origin
    try:
        source = _content(file)
    except FileNotFoundError:
        from difflib import get_close_matches

        place = "" if path.is_absolute() else f" here ({Path.cwd()})"
        close = get_close_matches(path.name, _programs_in(path.parent), n=1, cutoff=0.7)
        advice = f"Did you mean {str(path.parent / close[0])!r}?" if close else "Give the path of a Python file."
        raise SettingError(f"there is no program {short_repr(argument)}{place}. {advice}") from None
    except OSError as error:
        raise SettingError(f"the program {short_repr(argument)} cannot be read: {error.strerror or error}.") from error
    if path.suffix == ".ipynb":
        raise SettingError(
            f"{argument!r} is a notebook, not a Python program. In a notebook use runmem itself, with "
            "`runmem.session` or `runmem.measure`; `jupyter nbconvert --to script` makes a program of it."
        )
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


def _programs_in(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return []


def _content(file: str) -> bytes:
    """Read a program from a file or from a pipe such as the shell's ``<(...)``."""
    if stat.S_ISFIFO(os.stat(file).st_mode):
        return Path(file).read_bytes()
    return read_file(file)


class ProgramEnd(NamedTuple):
    """The end of a program.

    Attributes
    ----------
    exit_code : int
    succeeded : bool
        Whether it ended without an error, a signal or an exit code other than 0.
    by_signal : bool
        Whether a signal ended it.
    """

    exit_code: int
    succeeded: bool
    by_signal: bool = False


def run_program(program: Script | Module, arguments: Sequence[str], full_tracebacks: bool = False) -> ProgramEnd:
    """Run a program as ``__main__``, printing its traceback as Python does, and return its end.

    Parameters
    ----------
    arguments : sequence of str
        ``sys.argv[1:]`` of the program.
    full_tracebacks : bool
        Whether to print the frames of runmem and Dask too.
    """
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    _remove_folder_of_runmem()
    sys.argv = ["-m" if isinstance(program, Module) else program.argument, *arguments]
    try:
        _add_folder(program)
        code = program.set_up(main)
        exec(code, main.__dict__)
    except SystemExit as request:
        return _end_of_exit(request)
    except (NoSuchModuleError, ReservedNameError) as error:
        say(f"runmem: error: {error}")
        return ProgramEnd(error.exit_code, False)
    except BaseException as error:
        try:
            print_uncaught(error, full_tracebacks)
        except SystemExit as request:  # from the program's excepthook
            return _end_of_exit(request)
        return ProgramEnd(exit_code_of(error), False, type(error) is KeyboardInterrupt)
    finally:
        _flush()
    return ProgramEnd(0, True)


def _add_folder(program: Script | Module) -> None:
    """Insert the program's folder into ``sys.path``. Its modules shadow libraries for the program only."""
    # The option -P is for runmem's own start only; the variable is for the program too.
    is_folder = isinstance(program, Script) and program.spec is not None
    if not is_folder and os.environ.get("PYTHONSAFEPATH"):
        return
    folder = program.import_folder
    shadow(Shadowing(folder, program.first_imports), import_dask)
    if current_shadowing() is not None:
        exclude_from_workers(folder)
    sys.path.insert(0, folder)


def _end_of_exit(request: SystemExit) -> ProgramEnd:
    exit_code = exit_code_of(request)
    terminated = issubclass(type(request), Terminated)  # `isinstance` would run code of the exception's class
    return ProgramEnd(exit_code, exit_code == 0 and not terminated, terminated)


def _remove_folder_of_runmem() -> None:
    """Remove the first entry of ``sys.path`` that Python added to start runmem itself."""
    if not sys.path:
        return
    command = os.path.dirname(os.path.realpath(sys.argv[0]))  # of `runmem`, or with `python -m runmem` this package
    is_current = (
        sys.path[0] == os.getcwd() and os.path.dirname(os.path.dirname(os.path.dirname(__file__))) != os.getcwd()
    )
    if sys.path[0] == command or (
        is_current and command == os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    ):
        del sys.path[0]


def exit_code_of(error: BaseException) -> int:
    """Return Python's exit code for an exception that ends a program.

    For ``sys.exit("text")`` the text is printed to standard error and the code is 1. A `COMPSsException` gives 0.
    """
    if type(error) is KeyboardInterrupt:  # Python treats its subclasses like other errors
        return 128 + signal.SIGINT
    if issubclass(type(error), COMPSsException) and not issubclass(type(error), RunmemError):
        return 0  # as with PyCOMPSs: the program has ended its tasks on purpose
    if not issubclass(type(error), SystemExit):
        return 1
    code: object = error
    with suppress(BaseException):  # the class may raise: then the exception itself is printed
        code = error.code  # type: ignore[attr-defined]
    if code is None:
        return 0
    if issubclass(type(code), int):  # `isinstance` would run code of the class
        number: int = int.__int__(code)  # type: ignore[arg-type]
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
