"""`pycompss.interactive`: a run from `start` to `stop`, in a notebook or a script."""

from __future__ import annotations

import atexit
import sys
from contextlib import suppress

from runmem.errors import SettingError
from runmem.execution.run import Run
from runmem.execution.session import session
from runmem.graph.future import Future
from runmem.graph.synchronise import wait_on
from runmem.pycompss.install import install
from runmem.pycompss.options import settings_of
from runmem.standard_error import say

__all__ = ["start", "stop"]

_run: Run | None = None


def start(
    log_level: str = "off", o_c: bool = False, debug: bool = False, graph: bool = False, **options: object
) -> None:
    """Begin a run: calls of tasks go to a cluster until `stop`, or until Python ends.

    Parameters
    ----------
    **options
        Those of PyCOMPSs, such as ``app_name``, ``project_xml`` and ``wcl``, and the settings of `runmem.session`, such
        as ``workers=4``. Options without effect are listed in a note.

    Raises
    ------
    SettingError
        If a run is under way, or a value cannot be used.
    """
    global _run
    if _run is not None:
        raise SettingError("pycompss.interactive.start: a run is under way already; end it with stop() first.")
    install()
    name = options.pop("app_name", None) or options.pop("appName", None)
    given = {"log_level": log_level, "o_c": o_c, "debug": debug, "graph": graph, **options}
    run = session(str(name) if name else None, **settings_of(given, "interactive.start"))
    run.prepare_workers = ("runmem.pycompss.install:install",)
    run.start()
    _run = run
    say(f"runmem: started; the run is in {run.directory.root}")


def stop(sync: bool = False) -> None:
    """Wait for all tasks and end the run.

    Parameters
    ----------
    sync : bool
        Whether to replace futures in the variables of the notebook, or of the script, by their values.

    Raises
    ------
    Exception
        The error of a task that the program did not wait for.
    """
    global _run
    run, _run = _run, None
    if run is None:
        return
    error: BaseException | None = None
    try:
        if sync:
            _synchronise(vars(sys.modules["__main__"]))
    except BaseException as caught:
        error = caught
        raise
    finally:
        run.__exit__(None if error is None else type(error), error, None)
        calls = run.program.calls
        say(f"runmem: stopped after {calls} task call{'s' * (calls != 1)}; the run is in {run.directory.root}")


def _synchronise(names: dict[str, object]) -> None:
    for name, value in list(names.items()):
        if not name.startswith("_") and type(value) is Future:
            names[name] = wait_on(value)


def _stop_at_exit() -> None:
    with suppress(Exception):
        stop()


atexit.register(_stop_at_exit)
