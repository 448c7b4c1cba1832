"""A run from inside a script or a notebook."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runmem.collection.observer import Observer
from runmem.execution.run import Run
from runmem.extensions import make_extensions
from runmem.settings import resolve
from runmem.worker.probe import Probe

__all__ = ["name_of_program", "new_run", "session"]

_KERNELS = ("ipykernel_launcher", "colab_kernel_launcher", "spyder_kernels")


def session(
    app: str | None = None,
    *,
    observers: Sequence[Observer | str] = (),
    probes: Sequence[Probe | type[Probe] | str] = (),
    **settings: Any,
) -> Run:
    """Return a run to be used as a context manager, which prints nothing; see `runmem.session`.

    Parameters
    ----------
    app : str, optional
        Name of the run directory; default the name of the script or the notebook.
    observers : sequence of Observer or str
        Receive the events of the run; a text is ``module:Class``.
    probes : sequence of Probe, type or str
        Measure each task on its worker, beside its peak. The worker makes the object of a class or ``module:Class``.
    **settings
        As on the command line, by the names of its options.

    Raises
    ------
    SettingError
        For an unknown setting, or one that cannot be used.
    """
    return new_run(app, settings, observers=observers, probes=probes)


def new_run(
    app: str | None,
    settings: Mapping[str, Any],
    run_class: type[Run] = Run,
    observers: Sequence[Observer | str] = (),
    probes: Sequence[Probe | type[Probe] | str] = (),
) -> Run:
    """Make the run of a script or a notebook; see `session`."""
    name = app or name_of_program()
    own = make_extensions(observers, Observer, "session(observers=)")
    return run_class(resolve(settings), name, sys.argv or [name], own, probes=probes)


def name_of_program() -> str:
    """Return the name of the script; in a notebook that of its file, if Jupyter or VS Code provides it."""
    path = Path(sys.argv[0] if sys.argv else "")
    if path.stem in _KERNELS or (not path.suffix and "ipykernel" in sys.modules):
        file = os.environ.get("JPY_SESSION_NAME") or vars(sys.modules["__main__"]).get("__vsc_ipynb_file__")
        return Path(file).stem if isinstance(file, str) and file.endswith(".ipynb") else "notebook"
    return path.stem if path.suffix == ".py" else "session"
