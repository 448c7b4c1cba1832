"""Modules in the program's folder that have the name of one that runmem and Dask need, such as ``queue.py``.

Python looks into that folder first. The program is to find its own module there, as under plain Python, and what runmem
and Dask import is to be what they mean. So these import all that they need first, without the folder, and then leave the
names free for the program. What they import only later, inside a function, finds the program's module.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

from runmem.errors import SettingError

__all__ = ["check_names", "free_names", "shadowed_in"]

_LOOK_FOR_THEMSELVES = {"psutil"}  # in `sys.modules`, at each call

_LIBRARIES = frozenset((
    "bokeh", "certifi", "charset_normalizer", "click", "cloudpickle", "contourpy", "cycler", "dask", "dateutil",
    "distributed", "fsspec", "idna", "importlib_metadata", "jinja2", "kiwisolver", "locket", "lz4", "markdown_it",
    "markupsafe", "matplotlib", "mdurl", "memory_profiler", "msgpack", "msgspec", "numpy", "packaging", "pandas",
    "partd", "psutil", "pygments", "pyparsing", "requests", "rich", "six", "sortedcontainers", "tblib", "toolz", "tornado",
    "urllib3", "xxhash", "xyzservices", "yaml", "zict", "zipp",
))  # fmt: skip


def shadowed_in(folder: str) -> frozenset[str]:
    """Return the names of modules in a folder that are also those of the standard library, of Dask or what it needs."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return frozenset()
    known = sys.stdlib_module_names | _LIBRARIES
    found = set()
    for entry in entries:
        name = entry.partition(".")[0]
        if name in known and (inspect.getmodulename(entry) == name or _is_package(os.path.join(folder, entry))):
            found.add(name)
    return frozenset(found)


def check_names(names: frozenset[str], folder: str) -> None:
    """Raise SettingError if runmem cannot do without a name that the program has taken."""
    for name in sorted(names & _LOOK_FOR_THEMSELVES):
        raise SettingError(
            f"{os.path.join(folder, name)} has the name of the library {name}, which runmem needs under that name: give "
            "the program's module another one."
        )


def free_names(names: frozenset[str], folder: str) -> None:
    """Forget that modules with these names were imported from elsewhere, but for those that plain Python imports too.

    Who has imported them keeps them.
    """
    names -= _imported_at_start()
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            file = getattr(sys.modules[name], "__file__", None)
            if file is None or not file.startswith(os.path.join(folder, "")):
                del sys.modules[name]


def _is_package(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "__init__.py"))


def _imported_at_start() -> frozenset[str]:
    """Return the names of the modules that Python has imported when a program begins."""
    command = [sys.executable, "-P", "-c", "import sys; print(*sys.modules)"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return frozenset(ran.stdout.split()) | {"__main__", "sys", "builtins"}
