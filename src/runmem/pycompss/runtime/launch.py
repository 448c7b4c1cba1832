"""`pycompss.runtime.launch`: calls a function of another program, in a run of its own or in the current run."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runmem.clusters.child_imports import is_embedded_worker
from runmem.errors import SettingError
from runmem.execution.session import session
from runmem.graph.current import current_program
from runmem.pycompss.install import install
from runmem.pycompss.options import is_option, settings_of

__all__ = ["launch_pycompss_application"]


def launch_pycompss_application(app: str, func: str | None, *args: Any, **options: Any) -> Any:
    """Call a function of a program and return its result; its tasks run on a cluster.

    Inside a run, and in a task, the call belongs to that run.

    Parameters
    ----------
    app : str
        Path of the program.
    func : str or None
        Name of the function; None or ``"__main__"`` runs the whole program.
    *args
        A list of the function's arguments and a dictionary of its keywords, as in older PyCOMPSs, or a log level.
    **options
        Options of PyCOMPSs, such as ``debug`` and ``app_name``, and settings of `runmem.session`; all others are
        keywords of the function.

    Raises
    ------
    SettingError
        If there is no such program or function.
    """
    given = {name: value for name, value in options.items() if is_option(name)}
    keywords = {name: value for name, value in options.items() if not is_option(name) and name != "app_name"}
    positional = [*args, *(keywords.pop(name) for name in ("args", "kwargs") if name in keywords)]
    call_args: Sequence[Any] = next((arg for arg in positional if isinstance(arg, (list, tuple))), ())
    for arg in positional:
        if isinstance(arg, dict):
            keywords.update(arg)
        elif isinstance(arg, str):
            given.setdefault("log_level", arg)
    if not os.path.isfile(app):
        raise SettingError(f"launch_pycompss_application: there is no program {app!r}.")
    install()
    with _running(app, options.get("app_name"), given), _imported_from(app, call_args):
        if func is None or func == "__main__":
            runpy.run_path(app, run_name="__main__")
            return None
        return _function(app, func)(*call_args, **keywords)


@contextmanager
def _running(app: str, name: object, options: dict[str, object]) -> Iterator[None]:
    """Enter the current run, or a new one."""
    if current_program() is not None or is_embedded_worker():
        yield
        return
    run = session(str(name or os.path.splitext(os.path.basename(app))[0]), **settings_of(options, "launch"))
    run.prepare_workers = ("runmem.pycompss.install:install",)
    with run:
        yield


@contextmanager
def _imported_from(app: str, arguments: Sequence[Any]) -> Iterator[None]:
    """Add the program's folder to ``sys.path`` and its arguments to ``sys.argv``."""
    folder, argv = os.path.dirname(os.path.abspath(app)), sys.argv
    sys.path.insert(0, folder)
    sys.argv = [app, *map(str, arguments)]
    try:
        yield
    finally:
        sys.argv = argv
        if folder in sys.path:
            sys.path.remove(folder)


def _function(app: str, name: str) -> Callable[..., Any]:
    """Return a function of a program, which is imported under the name of its file."""
    module_name = os.path.splitext(os.path.basename(app))[0]
    module = sys.modules.get(module_name)
    if module is None or os.path.abspath(getattr(module, "__file__", None) or "") != os.path.abspath(app):
        spec = importlib.util.spec_from_file_location(module_name, app)
        if spec is None or spec.loader is None:
            raise SettingError(f"launch_pycompss_application: {app!r} is not a Python program.")
        module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    if not callable(function := getattr(module, name, None)):
        raise SettingError(f"launch_pycompss_application: {app!r} has no function {name!r}.")
    return function  # type: ignore[no-any-return]
