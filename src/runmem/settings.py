"""Settings of a run, resolved in one place: defaults < `dask.config` < environment < command line."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from runmem.dask_configuration import configuration, configuration_files
from runmem.errors import SettingError
from runmem.reading import read_yaml, shown
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
    default: Any, parse: Callable[[Any], Any], option: str, *environment: str
) -> Any:  # a dataclass field, typed as its value
    return field(default=default, metadata={"parse": parse, "option": option, "environment": environment})


@dataclass(frozen=True)
class Settings:
    """What a user can set about a run.

    Attributes
    ----------
    python_memory_profile : bool
        Whether memory is measured.
    memory_interval_s : float
        Seconds between two readings of the node sampler.
    workers : int or None
        Worker processes of the embedded cluster; None: one a core.
    worker_memory_bytes : int or None
        Memory limit of a worker; None: its share of what the machine allows.
    scheduler : str or None
        Address of a Dask scheduler to use instead of the embedded cluster.
    scheduler_file : Path or None
        File that a Dask scheduler wrote, with its address.
    hosts : str or None
        Hosts on which to start workers over SSH, with commas between them, or a file with one a line.
    cluster : str or None
        Kind of cluster, a name in `runmem.clusters.CLUSTERS`; None: what the other settings ask for.
    remote_python : str or None
        Interpreter on the hosts; None: the path of this one.
    ssh_command : str
        How hosts are reached: ``ssh`` with options, or something that takes the same.
    master_address : str or None
        Name or address, also with a port, under which hosts reach this machine; None: as the route to them has it.
    tls_ca, tls_cert, tls_key : Path or None
        PEM files: the authority whose certificates are trusted, and the certificate and key of this program.
    insecure : bool
        Whether a run that spans hosts may do without TLS.
    log_level : str
        ``off``, ``info`` or ``debug`` (shows the workers' `@profile` reports).
    env_script : Path or None
        Shell script sourced before workers start.
    run_folder : Path
        Where run directories are made.
    worker_profile_path : Path or None
        Where the `.dat` traces go; None: the folder the program was started from.
    spool_size_bytes : int
        Room that a run takes in the folder for temporary files of a node, beside what the master has not read yet.
    task_timeout_s : float or None
        Seconds that a call of a task may take whose ``@task(time_out=)`` does not say.
    sequential : bool
        Whether tasks run one after the other in the program's own process, without a cluster.
    inputs : str or None
        ``copied``: a task gets a copy of all that it only reads; ``shared``: large arrays are shared by those that read
        them, and cannot be written to; None: copied in programs that import pycompss.
    malloc_trim : bool
        Whether the C allocator gives free memory back before each task.
    """

    python_memory_profile: bool = _setting(False, _flag, "--python_memory_profile", "RUNMEM_PYTHON_MEMORY_PROFILE")
    memory_interval_s: float = _setting(0.1, _seconds, "--memory_interval", "RUNMEM_MEMORY_INTERVAL")
    workers: int | None = _setting(None, _count, "--workers", "RUNMEM_WORKERS")
    worker_memory_bytes: int | None = _setting(None, _memory, "--worker_memory", "RUNMEM_WORKER_MEMORY")
    scheduler: str | None = _setting(None, _address, "--scheduler", "RUNMEM_SCHEDULER")
    scheduler_file: Path | None = _setting(None, _path, "--scheduler_file", "RUNMEM_SCHEDULER_FILE")
    hosts: str | None = _setting(None, _hosts, "--hosts", "RUNMEM_HOSTS")
    cluster: str | None = _setting(None, _word, "--cluster", "RUNMEM_CLUSTER")
    remote_python: str | None = _setting(None, _word, "--remote_python", "RUNMEM_REMOTE_PYTHON")
    ssh_command: str = _setting("ssh", _word, "--ssh_command", "RUNMEM_SSH_COMMAND")
    master_address: str | None = _setting(None, _host, "--master_address", "RUNMEM_MASTER_ADDRESS")
    tls_ca: Path | None = _setting(None, _path, "--tls_ca", "RUNMEM_TLS_CA")
    tls_cert: Path | None = _setting(None, _path, "--tls_cert", "RUNMEM_TLS_CERT")
    tls_key: Path | None = _setting(None, _path, "--tls_key", "RUNMEM_TLS_KEY")
    insecure: bool = _setting(False, _flag, "--insecure", "RUNMEM_INSECURE")
    log_level: str = _setting("off", _log_level, "--log_level", "RUNMEM_LOG_LEVEL")
    env_script: Path | None = _setting(None, _path, "--env_script", "RUNMEM_ENV_SCRIPT")
    run_folder: Path = _setting(Path("runmem_runs"), _path, "--run_folder", "RUNMEM_RUN_FOLDER")
    worker_profile_path: Path | None = _setting(
        None, _path, "--worker_profile_path", "RUNMEM_WORKER_PROFILE_PATH", "COMPSS_WORKER_PROFILE_PATH"
    )
    spool_size_bytes: int = _setting(64 * 1024**2, _spool_size, "--spool_size", "RUNMEM_SPOOL_SIZE")
    task_timeout_s: float | None = _setting(None, _time_limit, "--task_timeout", "RUNMEM_TASK_TIMEOUT")
    sequential: bool = _setting(False, _flag, "--sequential", "RUNMEM_SEQUENTIAL")
    inputs: str | None = _setting(None, _inputs, "--inputs", "RUNMEM_INPUTS")
    malloc_trim: bool = _setting(False, _flag, "--malloc_trim", "RUNMEM_MALLOC_TRIM")

    def describe(self) -> dict[str, Any]:
        """Return the settings as JSON values, for the record of the run."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def resolve(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a run.

    Parameters
    ----------
    given : mapping
        Values from the command line or from `runmem.session`, by field name; None counts as not given.
    environment : mapping, optional
        Default `os.environ`.

    Raises
    ------
    SettingError
        For a value that cannot be used, with the place it came from.
    """
    environment = os.environ if environment is None else environment
    known = {f.name: f for f in fields(Settings)}
    if unknown := [name for name in given if name not in known]:
        raise SettingError(
            f"unknown setting {unknown[0]!r}; the settings are {', '.join(map(option_name, known.values()))}."
        )
    _check_files()
    configured = configuration()
    _check_configuration(configured, [option_name(f) for f in known.values()])
    values = {}
    for name, setting in known.items():
        places: list[tuple[str, Any]] = [(setting.metadata["option"], given.get(name))]
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
    return str(setting.metadata["option"]).lstrip("-")


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
            what = shown(documents[0]) if len(documents) == 1 else f"{len(documents)} documents"
            raise SettingError(f"dask configuration {file}: it holds {what}, not a mapping of names to values.")


def _check_configuration(section: Any, names: list[str]) -> None:
    if not isinstance(section, Mapping):
        raise SettingError(f"dask configuration runmem: {shown(section)} is not a mapping of settings to values.")
    for key in section:
        if str(key).replace("-", "_") not in names:
            raise SettingError(
                f"dask configuration runmem.{key}: there is no such setting; write one of {', '.join(names)}."
            )


def _parsed(parse: Callable[[Any], Any], value: Any, place: str) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise SettingError(f"{place}: {shown(value)} cannot be used: {error}.") from None
