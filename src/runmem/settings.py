"""The settings of a run. Precedence: command line, environment, `dask.config`, defaults."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from runmem.dask_configuration import configuration, configuration_files
from runmem.errors import SettingError
from runmem.reading import read_yaml, short_repr
from runmem.units import parse_bytes

__all__ = ["INPUTS", "LOG_LEVELS", "ON_MEMORY", "Settings", "environment_variables", "option_name", "resolve"]

INPUTS = ("shared", "copied")
LOG_LEVELS = ("off", "info", "debug")
MEMORY_METRICS = ("rss", "pss", "uss")
ON_MEMORY = ("retry_alone", "retry_larger", "fail")


def _flag(value: object) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected true or false (or 1 or 0, yes or no, on or off)")


def _number(value: Any) -> float:
    """Convert a value to a number, NaN if it is not one or is a bool."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan


def _seconds(value: object) -> float:
    seconds = _number(value)
    if not 0.01 <= seconds <= 3600:
        raise ValueError("expected a number of seconds from 0.01 to 3600, such as 0.1")
    return seconds


def _time_limit(value: object) -> float:
    seconds = _number(value)
    if not 0.1 <= seconds <= 10 * 365 * 86400:
        raise ValueError("expected a number of seconds, 0.1 or more, such as 3600")
    return seconds


def _count(value: object) -> int:
    count = _number(value)
    if not (count >= 1 and count.is_integer()):
        raise ValueError("expected a whole number, 1 or more")
    return int(count)


def _memory(value: Any) -> int:
    size = parse_bytes(value)
    if size < 100 * 1024**2:
        without_unit = f"without a unit {value} means {value} bytes; " if str(value).strip().isdecimal() else ""
        raise ValueError(f"{without_unit}a worker uses some 65MiB before its first task: set at least 100MiB")
    return size


def _spool_size(value: Any) -> int:
    size = parse_bytes(value)
    if size < 64 * 1024:
        raise ValueError("expected at least 64KiB")
    return size


def _matching(pattern: str, expected: str) -> Callable[[object], str]:
    """Make a parser of texts that match a regular expression."""

    def parse(value: object) -> str:
        text = str(value).strip()
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return parse


_address = _matching(r"(\w+://)?[^\s/:]+:\d+|\w+://\S+", "an address such as tcp://10.0.0.5:8786")
_hosts = _matching(r"[^\s,]+([\s]*,[\s]*[^\s,]+)*", "host names separated by commas, or a file with one host per line")
_host = _matching(
    r"[\w.-]+(:\d+)?|\[[\da-fA-F:.%\w]+\](:\d+)?",
    "a host name or an address, with an optional port, such as 10.0.0.5 or 10.0.0.5:8786",
)


def _word(value: object) -> str:
    if not str(value).strip():
        raise ValueError("expected a name")
    return str(value)


def _classes(value: object) -> tuple[str, ...]:
    names = list(value) if isinstance(value, (list, tuple)) else [name.strip() for name in str(value).split(",")]
    for name in names:
        if not (isinstance(name, str) and re.fullmatch(r"[\w.]+:[\w.]+", name)):
            raise ValueError("expected module:Class, several separated by commas")
    return tuple(names)


def _names(value: object) -> tuple[str, ...]:
    names = list(value) if isinstance(value, (list, tuple)) else [name.strip() for name in str(value).split(",")]
    if not all(isinstance(name, str) and re.fullmatch(r"\S+", name) for name in names):
        raise ValueError("expected names of tasks, several separated by commas")
    return tuple(names)


def _one_of(choices: Sequence[str]) -> Callable[[object], str]:
    """Make a parser of a choice."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return parse


def _folders(value: object) -> tuple[str, ...]:
    folders = list(value) if isinstance(value, (list, tuple)) else str(value).split(os.pathsep)
    if not all(isinstance(folder, str) for folder in folders):
        raise ValueError("expected folders, separated by colons")
    return tuple(folder for folder in folders if folder)


def _path(value: object) -> Path:
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:
        raise ValueError("there is no home directory for ~: write the whole path") from None


def _setting(
    default: object,
    parse: Callable[[Any], object],
    help: str,
    metavar: str | None = None,
    *,
    unset: str | None = None,
    choices: Sequence[str] = (),
    variables: Sequence[str] = (),
) -> Any:  # a dataclass field, typed as its value
    """Return a field of `Settings`.

    Parameters
    ----------
    metavar : str, optional
        Placeholder of the value in the help; None for a flag and for `choices`.
    unset : str, optional
        Default for the help.
    variables : sequence of str
        Environment variables besides ``RUNMEM_`` and the option name in capitals.
    """
    metadata = {"parse": parse, "help": help, "metavar": metavar, "unset": unset, "choices": tuple(choices)}
    return field(default=default, metadata={**metadata, "variables": tuple(variables)})


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    The options of the command line, the arguments of `runmem.session`, the environment variables, the keys of Dask's
    configuration and the documentation are generated from this class. The help of a field is its description. Sizes are
    in bytes, times in seconds; None means `unset`.
    """

    python_memory_profile: bool = _setting(
        False, _flag, "Measure memory: a record of each task, a .dat trace of the master and each node."
    )
    memory_interval_s: float = _setting(0.1, _seconds, "Time between two samples of a node.", "SECONDS", unset="0.1")
    memory_metric: str = _setting(
        "rss",
        _one_of(MEMORY_METRICS),
        "What samples read: resident, proportional or unique set size. Peaks of tasks are always resident set sizes.",
        choices=MEMORY_METRICS,
    )
    workers: int | None = _setting(None, _count, "Worker processes, one thread each.", "N", unset="one per core")
    worker_memory_bytes: int | None = _setting(
        None,
        _memory,
        "Memory limit of a worker, such as 2GiB.",
        "SIZE",
        unset="an equal share of the memory available here",
    )
    scheduler: str | None = _setting(
        None, _address, "Use the Dask scheduler at ADDRESS, such as tcp://10.0.0.5:8786.", "ADDRESS"
    )
    scheduler_file: Path | None = _setting(
        None, _path, "Use the Dask scheduler in a file written by `dask scheduler`.", "FILE"
    )
    hosts: str | None = _setting(
        None, _hosts, "Start workers over SSH on hosts: names such as a,b or a file with one per line.", "HOSTS"
    )
    cluster: str | None = _setting(None, _word, "Kind of cluster by name, such as local or ssh.", "KIND")
    remote_python: str | None = _setting(None, _word, "Interpreter on the hosts.", "PATH", unset="the path of this one")
    ssh_command: str = _setting(
        "ssh", _word, "Command to connect to hosts, such as 'ssh -p 2222'.", "COMMAND", unset="ssh"
    )
    master_address: str | None = _setting(
        None, _host, "Address of this machine for the workers.", "HOST[:PORT]", unset="the address on the route to them"
    )
    tls_ca: Path | None = _setting(None, _path, "Certificate of the trusted authority (PEM), for tls://.", "FILE")
    tls_cert: Path | None = _setting(None, _path, "Certificate of this program (PEM).", "FILE")
    tls_key: Path | None = _setting(None, _path, "Key of this program (PEM).", "FILE")
    insecure: bool = _setting(
        False, _flag, "Use several hosts without TLS: anyone who can connect to a port of the run can run code as you."
    )
    env_script: Path | None = _setting(
        None, _path, "Shell script to source before the program and its workers start.", "FILE"
    )
    profile_peak: bool = _setting(
        False, _flag, "Add the column Peak to the tables of @profile: the highest memory while each line ran."
    )
    memray: tuple[str, ...] = _setting(
        (),
        _names,
        "Record all allocations of these tasks with memray, native ones too, and draw flame graphs: names of tasks, "
        "separated by commas.",
        "TASKS",
    )
    log_level: str = _setting(
        "off", _one_of(LOG_LEVELS), "debug prints the workers' @profile reports.", choices=LOG_LEVELS
    )
    run_folder: Path = _setting(
        Path("runmem_runs"), _path, "Parent of the run directories.", "DIR", unset="runmem_runs"
    )
    worker_profile_path: Path | None = _setting(
        None,
        _path,
        "Folder for the .dat traces.",
        "DIR",
        unset="the current folder",
        variables=["COMPSS_WORKER_PROFILE_PATH"],
    )
    spool_size_bytes: int = _setting(
        64 * 1024**2,
        _spool_size,
        "Space in a node's TMPDIR for data that the run directory already has.",
        "SIZE",
        unset="64MiB",
    )
    task_timeout_s: float | None = _setting(
        None, _time_limit, "Time limit of a task, unless its @task(time_out=) sets another.", "SECONDS"
    )
    on_memory: str | None = _setting(
        None,
        _one_of(ON_MEMORY),
        "What happens to a task whose worker was killed for memory, unless its @task(on_memory=) says otherwise: "
        "once more alone on its node, the same with a larger limit, or failure.",
        choices=ON_MEMORY,
        unset="retry_alone",
    )
    sequential: bool = _setting(
        False, _flag, "Run the tasks one after the other in the program's process, to debug or compare."
    )
    inputs: str | None = _setting(
        None,
        _one_of(INPUTS),
        "Whether large arrays that tasks only read are shared and read-only, or copied for each task.",
        choices=INPUTS,
        unset="shared; copied in programs that import pycompss",
    )
    observers: tuple[str, ...] = _setting(
        (), _classes, "Classes that receive the events of the run, separated by commas.", "MODULE:CLASS"
    )
    probes: tuple[str, ...] = _setting(
        (),
        _classes,
        "Classes that take more measurements of each task on its worker, separated by commas.",
        "MODULE:CLASS",
    )
    malloc_trim: bool = _setting(
        False, _flag, "Return freed memory to the system before each task, even if there is little."
    )
    memory_aware: bool = _setting(
        False,
        _flag,
        "Start a task only where the memory that it is expected to need is free. Measures memory too.",
    )
    memory_from: Path | None = _setting(
        None,
        _path,
        "Run directory from which --memory_aware, which this option implies, takes what tasks need.",
        "RUN",
    )
    graph: bool = _setting(
        False, _flag, "Write the graph of the run to complete_graph.dot, and to an SVG where graphviz is installed."
    )
    implicit_sync: bool = _setting(
        False, _flag, "Wait for a future that is used as its value: in arithmetic, len, loops or conditions."
    )
    nested: bool = _setting(
        False, _flag, "Send calls of tasks inside tasks to the workers too; otherwise these are plain function calls."
    )
    pythonpath: tuple[str, ...] = _setting((), _folders, "Folders to import from, separated by colons.", "FOLDERS")
    wall_clock_limit_s: float | None = _setting(None, _time_limit, "End the run when it takes longer.", "SECONDS")

    def describe(self) -> dict[str, object]:
        """Return the settings as JSON values, for ``run.json``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def resolve(given: Mapping[str, object], environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a run.

    Parameters
    ----------
    given : mapping
        Values from the command line or from `runmem.session`, by option or field name; None counts as not given.
    environment : mapping, optional
        Default `os.environ`.

    Raises
    ------
    SettingError
        If a value is invalid; names its source.
    """
    environment = os.environ if environment is None else environment
    settings = fields(Settings)
    known = {name: f for f in settings for name in (f.name, option_name(f))}
    if unknown := [name for name in given if name not in known]:
        raise SettingError(f"unknown setting {unknown[0]!r}; the settings are {', '.join(map(option_name, settings))}.")
    given = {known[name].name: value for name, value in given.items()}
    _check_files()
    configured = _checked_configuration([option_name(f) for f in settings])
    values = {}
    for setting in settings:
        name = setting.name
        places: list[tuple[str, object]] = [(f"--{option_name(setting)}", given.get(name))]
        places += [(f"environment variable {key}", environment.get(key)) for key in environment_variables(setting)]
        option = option_name(setting)
        configured_value = configured.get(option, configured.get(option.replace("_", "-")))
        places.append((f"dask configuration runmem.{option}", configured_value))
        for place, value in places:
            if value is not None and value != "":
                values[name] = _parsed(setting.metadata["parse"], value, place)
                break
    return _with_implied(Settings(**values))


def _with_implied(settings: Settings) -> Settings:
    """Return the settings with those that others imply."""
    if settings.memory_from is not None or settings.memory_aware:
        return replace(settings, memory_aware=True, python_memory_profile=True)
    return settings


def option_name(setting: Field[Any]) -> str:
    """Return the name of a setting in all sources: its field name without the unit."""
    return re.sub("_(s|bytes)$", "", setting.name)


def environment_variables(setting: Field[Any]) -> tuple[str, ...]:
    """Return the environment variables of a setting, the first one taking precedence."""
    return (f"RUNMEM_{option_name(setting).upper()}", *setting.metadata["variables"])


def _check_files() -> None:
    """Raise a SettingError for a configuration file that would make the import of Dask fail."""
    if "dask" in sys.modules:  # it has read the files
        return
    for file in configuration_files():
        try:
            documents = [found for found in read_yaml(file, lambda key: key == "runmem") if found is not None]
        except (FileNotFoundError, PermissionError):  # Dask ignores them
            continue
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise SettingError(f"dask configuration {file}: {what or error}: correct it or remove it.") from error
        if len(documents) > 1 or not all(isinstance(document, dict) for document in documents):
            what = short_repr(documents[0]) if len(documents) == 1 else f"{len(documents)} documents"
            raise SettingError(f"dask configuration {file}: expected a mapping of names to values, found {what}.")


def _checked_configuration(names: list[str]) -> Mapping[str, object]:
    section = configuration()
    if not isinstance(section, Mapping):
        raise SettingError(f"dask configuration runmem: {short_repr(section)} is not a mapping of settings to values.")
    for key in section:
        if str(key).replace("-", "_") not in names:
            raise SettingError(
                f"dask configuration runmem.{key}: there is no such setting; the settings are {', '.join(names)}."
            )
    return section


def _parsed(parse: Callable[[object], object], value: object, place: str) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise SettingError(f"{place}: {short_repr(value)} cannot be used: {error}.") from None
