"""Settings of a run, resolved in one place: defaults < `dask.config` < environment < command line."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from runmem.dask_configuration import configuration, configuration_files
from runmem.errors import SettingError
from runmem.reading import read_yaml, short_repr
from runmem.units import parse_bytes

__all__ = ["INPUTS", "LOG_LEVELS", "Settings", "resolve", "option_name"]

INPUTS = ("shared", "copied")
LOG_LEVELS = ("off", "info", "debug")


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected true or false (or 1 or 0, yes or no, on or off)")


def _number(value: Any) -> float:
    """Return a number, or one that no range holds for what is none; True and False are not taken for 1 and 0."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan


def _seconds(value: Any) -> float:
    seconds = _number(value)
    if not 0.01 <= seconds <= 3600:
        raise ValueError("expected a number of seconds from 0.01 to 3600, such as 0.1")
    return seconds


def _time_limit(value: Any) -> float:
    seconds = _number(value)
    if not 0.1 <= seconds <= 10 * 365 * 86400:
        raise ValueError("expected a number of seconds, 0.1 or more, such as 3600")
    return seconds


def _count(value: Any) -> int:
    count = _number(value)
    if not (count >= 1 and count.is_integer()):
        raise ValueError("expected a whole number, 1 or more")
    return int(count)


def _memory(value: Any) -> int:
    size = parse_bytes(value)
    if size < 100 * 1024**2:
        raise ValueError("a worker takes some 65MiB before its first task: give it at least 100MiB")
    return size


def _spool_size(value: Any) -> int:
    size = parse_bytes(value)
    if size < 64 * 1024:
        raise ValueError("less than 64KiB would be freed and written anew all the time")
    return size


def _address(value: Any) -> str:
    if not re.fullmatch(r"(\w+://)?[^\s/:]+:\d+|\w+://\S+", str(value)):
        raise ValueError("expected an address such as tcp://10.0.0.5:8786")
    return str(value)


def _hosts(value: Any) -> str:
    if not re.fullmatch(r"[^\s,]+([\s]*,[\s]*[^\s,]+)*", str(value).strip()):
        raise ValueError("expected host names with commas between them, or a file with one host a line")
    return str(value).strip()


def _host(value: Any) -> str:
    if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[\da-fA-F:.%\w]+\](:\d+)?", str(value)):
        raise ValueError(
            "expected a host name or an address, with a port if need be, such as 10.0.0.5 or 10.0.0.5:8786"
        )
    return str(value)


def _word(value: Any) -> str:
    if not str(value).strip():
        raise ValueError("expected a name")
    return str(value)


def _classes(value: Any) -> tuple[str, ...]:
    names = list(value) if isinstance(value, (list, tuple)) else [name.strip() for name in str(value).split(",")]
    for name in names:
        if not (isinstance(name, str) and re.fullmatch(r"[\w.]+:[\w.]+", name)):
            raise ValueError("expected module:Class, with commas between several")
    return tuple(names)


def _log_level(value: Any) -> str:
    if value not in LOG_LEVELS:
        raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}")
    return str(value)


def _inputs(value: Any) -> str:
    if value not in INPUTS:
        raise ValueError(f"expected one of {', '.join(INPUTS)}")
    return str(value)


def _path(value: Any) -> Path:
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:
        raise ValueError("there is no home directory that ~ could stand for: write the whole path") from None


def _setting(
    option: str,
    default: Any,
    parse: Callable[[Any], Any],
    help: str,
    metavar: str | None = None,
    *,
    unset: str | None = None,
    choices: Sequence[str] = (),
    variables: Sequence[str] = (),
    in_jobs: bool = False,
) -> Any:  # a dataclass field, typed as its value
    """Return a field of `Settings`.

    Parameters
    ----------
    option : str
        Its name on the command line, in `runmem.session` and in Dask's configuration; ``RUNMEM_`` and the same in
        capitals is its environment variable.
    metavar : str, optional
        What stands for the value in the help; None: it is a flag, or one of `choices`.
    unset : str, optional
        What holds where nothing is given, for the help.
    variables : sequence of str
        Further environment variables.
    in_jobs : bool
        Whether it means the same in a job of `runmem submit`.
    """
    environment = (f"RUNMEM_{option.upper()}", *variables)
    return field(default=default, metadata={
        "option": option, "parse": parse, "help": help, "metavar": metavar, "unset": unset, "choices": tuple(choices),
        "environment": environment, "in_jobs": in_jobs,
    })  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a user can set about a run.

    The one table of them: options of the command line, arguments of `runmem.session`, environment variables, Dask's
    configuration and the documentation are made from it. What a field means stands in its help. Sizes are in bytes,
    times in seconds; None: what `unset` says, or nothing.
    """

    python_memory_profile: bool = _setting(
        "python_memory_profile", False, _flag,
        "Measure memory: a record for each task, a .dat trace for the master and each node.", in_jobs=True,
    )  # fmt: skip
    memory_interval_s: float = _setting(
        "memory_interval", 0.1, _seconds, "Time between two readings of a node.", "SECONDS", unset="0.1", in_jobs=True
    )
    workers: int | None = _setting(
        "workers", None, _count, "Worker processes, one thread each.", "N", unset="one a core"
    )
    worker_memory_bytes: int | None = _setting(
        "worker_memory", None, _memory, "Memory limit of a worker, such as 2GiB.", "SIZE",
        unset="its share of what is allowed here",
    )  # fmt: skip
    scheduler: str | None = _setting(
        "scheduler", None, _address, "Use the Dask scheduler at ADDRESS, such as tcp://10.0.0.5:8786.", "ADDRESS"
    )
    scheduler_file: Path | None = _setting(
        "scheduler_file", None, _path, "The same, by the file that `dask scheduler` wrote.", "FILE"
    )
    hosts: str | None = _setting(
        "hosts", None, _hosts, "Start workers over SSH on a,b or on the hosts that a file names, one a line.", "HOSTS"
    )
    cluster: str | None = _setting("cluster", None, _word, "Kind of cluster by name, such as local or ssh.", "KIND")
    remote_python: str | None = _setting(
        "remote_python", None, _word, "Interpreter on the hosts.", "PATH", unset="the path of this one"
    )
    ssh_command: str = _setting(
        "ssh_command", "ssh", _word, "How hosts are reached, such as 'ssh -p 2222'.", "COMMAND", unset="ssh"
    )
    master_address: str | None = _setting(
        "master_address", None, _host, "Where hosts reach this machine.", "HOST[:PORT]",
        unset="as the route to them has it", in_jobs=True,
    )  # fmt: skip
    tls_ca: Path | None = _setting(
        "tls_ca", None, _path, "Certificate of the authority that is trusted (PEM), for tls://.", "FILE", in_jobs=True
    )
    tls_cert: Path | None = _setting(
        "tls_cert", None, _path, "Certificate of this program (PEM).", "FILE", in_jobs=True
    )
    tls_key: Path | None = _setting("tls_key", None, _path, "Key of this program (PEM).", "FILE", in_jobs=True)
    insecure: bool = _setting(
        "insecure", False, _flag,
        "Span hosts without TLS: whoever reaches a port of the run can run code as you.", in_jobs=True,
    )  # fmt: skip
    env_script: Path | None = _setting(
        "env_script", None, _path, "Shell script that is sourced before the program and its workers start.", "FILE"
    )
    log_level: str = _setting(
        "log_level", "off", _log_level, "debug shows the workers' @profile reports.", choices=LOG_LEVELS, in_jobs=True
    )
    run_folder: Path = _setting(
        "run_folder", Path("runmem_runs"), _path, "Where run directories are made.", "DIR", unset="runmem_runs",
        in_jobs=True,
    )  # fmt: skip
    worker_profile_path: Path | None = _setting(
        "worker_profile_path", None, _path, "Where the .dat traces go.", "DIR", unset="the folder you are in",
        variables=["COMPSS_WORKER_PROFILE_PATH"], in_jobs=True,
    )  # fmt: skip
    spool_size_bytes: int = _setting(
        "spool_size", 64 * 1024**2, _spool_size,
        "Room in a node's TMPDIR for what the run directory has already.", "SIZE", unset="64MiB", in_jobs=True,
    )  # fmt: skip
    task_timeout_s: float | None = _setting(
        "task_timeout", None, _time_limit, "End a task that takes longer, unless its @task(time_out=) says otherwise.",
        "SECONDS", in_jobs=True,
    )  # fmt: skip
    sequential: bool = _setting(
        "sequential", False, _flag,
        "Run the tasks one after the other in the program's own process: to debug or compare.",
    )  # fmt: skip
    inputs: str | None = _setting(
        "inputs", None, _inputs,
        "Whether large arrays that tasks only read are shared, and cannot be written to, or copied for each.",
        choices=INPUTS, unset="shared; copied in programs that import pycompss", in_jobs=True,
    )  # fmt: skip
    observers: tuple[str, ...] = _setting(
        "observers", (), _classes, "Classes that hear what happens in the run, with commas between them.",
        "MODULE:CLASS", in_jobs=True,
    )  # fmt: skip
    probes: tuple[str, ...] = _setting(
        "probes", (), _classes, "Classes that measure each task on its worker too, with commas between them.",
        "MODULE:CLASS", in_jobs=True,
    )  # fmt: skip
    malloc_trim: bool = _setting(
        "malloc_trim", False, _flag, "Give freed memory back before each task, also where little can be left.",
        in_jobs=True,
    )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return the settings as JSON values, for the record of the run."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def resolve(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
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
        For a value that cannot be used, with the place it came from.
    """
    environment = os.environ if environment is None else environment
    settings = fields(Settings)
    known = {name: f for f in settings for name in (f.name, option_name(f))}
    if unknown := [name for name in given if name not in known]:
        raise SettingError(f"unknown setting {unknown[0]!r}; the settings are {', '.join(map(option_name, settings))}.")
    given = {known[name].name: value for name, value in given.items()}
    _check_files()
    configured = configuration()
    _check_configuration(configured, [option_name(f) for f in settings])
    values = {}
    for setting in settings:
        name = setting.name
        places: list[tuple[str, Any]] = [(f"--{option_name(setting)}", given.get(name))]
        places += [(f"environment variable {key}", environment.get(key)) for key in setting.metadata["environment"]]
        option = option_name(setting)
        configured_value = configured.get(option, configured.get(option.replace("_", "-")))
        places.append((f"dask configuration runmem.{option}", configured_value))
        for place, value in places:
            if value is not None and value != "":
                values[name] = _parsed(setting.metadata["parse"], value, place)
                break
    return Settings(**values)


def option_name(setting: Field[Any]) -> str:
    """Return the name of a field of `Settings` on the command line and in Dask's configuration, without dashes."""
    return str(setting.metadata["option"])


def _check_files() -> None:
    """Raise a SettingError for a file of Dask's configuration that Dask could not be imported with."""
    if "dask" in sys.modules:  # it has read them
        return
    for file in configuration_files():
        try:
            documents = [document for document in read_yaml(file) if document is not None]
        except (FileNotFoundError, PermissionError):  # Dask passes them by
            continue
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise SettingError(f"dask configuration {file}: {what or error}: correct it or remove it.") from error
        if len(documents) > 1 or not all(isinstance(document, dict) for document in documents):
            what = short_repr(documents[0]) if len(documents) == 1 else f"{len(documents)} documents"
            raise SettingError(f"dask configuration {file}: it holds {what}, not a mapping of names to values.")


def _check_configuration(section: Any, names: list[str]) -> None:
    if not isinstance(section, Mapping):
        raise SettingError(f"dask configuration runmem: {short_repr(section)} is not a mapping of settings to values.")
    for key in section:
        if str(key).replace("-", "_") not in names:
            raise SettingError(
                f"dask configuration runmem.{key}: there is no such setting; write one of {', '.join(names)}."
            )


def _parsed(parse: Callable[[Any], Any], value: Any, place: str) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise SettingError(f"{place}: {short_repr(value)} cannot be used: {error}.") from None
