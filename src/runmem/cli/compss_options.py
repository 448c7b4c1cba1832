"""Options of `runcompss` that `runmem run` accepts: other names of settings, and the XML files of COMPSs."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from runmem.cli.setting_options import Decorated
from runmem.clusters.compss_xml import settings_from_xml
from runmem.standard_error import say
from runmem.store.layout import safe_name

__all__ = ["compss_options", "link_run", "translated_options"]

_COMPSS_OPTIONS = (
    click.option("-d", "--debug", is_flag=True, help="The same as --log_level debug."),
    click.option("-g", "short_graph", is_flag=True, help="The same as --graph."),
    click.option("--summary", is_flag=True, help="Print a table of the tasks, also if memory is not measured."),
    click.option("--log_dir", "--base_log_dir", "log_dir", metavar="DIR", help="The same as --run_folder."),
    click.option("--python_interpreter", metavar="PATH", help="The same as --remote_python."),
    click.option("--project", metavar="FILE", type=click.Path(), help="COMPSs's XML file: nodes, limits of tasks."),
    click.option("--resources", metavar="FILE", type=click.Path(), help="COMPSs's XML file: cores and memory."),
    click.option(
        "--compss_folder",
        metavar="DIR",
        type=click.Path(),
        help="Make links to the run in DIR/<program>_<NN>, as runcompss does in ~/.COMPSs.",
    ),
)
_COMPSS_NAMES = (
    "debug",
    "short_graph",
    "summary",
    "log_dir",
    "python_interpreter",
    "project",
    "resources",
    "compss_folder",
)
# a setting that is given by its own name has precedence
_SETTING_BY_OPTION = {"log_dir": "run_folder", "python_interpreter": "remote_python"}


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def compss_options(function: Decorated) -> Decorated:
    """Add the options to a command."""
    for option in reversed(_COMPSS_OPTIONS):
        function = option(function)
    return function


def translated_options(options: dict[str, Any]) -> dict[str, Any]:
    """Replace the options that `compss_options` adds by settings.

    Raises
    ------
    SettingError
        If an XML file cannot be used.
    """
    theirs = {name: options.get(name) for name in _COMPSS_NAMES}
    implied: dict[str, Any] = {setting: theirs[name] for name, setting in _SETTING_BY_OPTION.items()}
    if theirs["debug"]:
        implied["log_level"] = "debug"
    if theirs["short_graph"]:
        implied["graph"] = True
    implied.update(settings_from_xml(_path(theirs["project"]), _path(theirs["resources"])))
    given = {name: value for name, value in options.items() if name not in _COMPSS_NAMES}
    return {**given, **{name: value for name, value in implied.items() if given.get(name) is None}}


def link_run(folder: str | None, program: str, run: Path) -> None:
    """Make ``<folder>/<program>_<NN>``, where users of COMPSs look for output, with links into a run directory.

    ``jobs`` links to the `@profile` reports, ``monitor`` to the folder of the graph, ``run`` to the run directory.
    Nothing is made if `folder` is None.
    """
    if folder is None:
        return
    base = Path(folder).expanduser()
    name = safe_name(Path(program).name)
    try:
        base.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            made = base / f"{name}_{number:02d}"
            with suppress(FileExistsError):
                made.mkdir()
                break
        for link, target in (("jobs", run / "profiles"), ("monitor", run), ("run", run)):
            (made / link).symlink_to(target.absolute())
    except OSError as error:
        say(f"runmem: note: {base} has no links to the run: {error.strerror or error}")
