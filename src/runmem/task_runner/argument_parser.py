"""The command line of a command-line task."""

from __future__ import annotations

import argparse
import logging
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from runmem.errors import RunmemError, SettingError
from runmem.pipe_base.butler import FolderButler
from runmem.pipe_base.config import Config
from runmem.task_runner.configurations import override, override_from_file
from runmem.task_runner.data_ids import DataIdContainer, parse_data_ids
from runmem.task_runner.dataset_types import DynamicDatasetType
from runmem.task_runner.input_and_output import InputAndOutput
from runmem.task_runner.shown import show

__all__ = ["ArgumentParser"]

_LEVELS = {"trace": 5, "debug": 10, "verbose": 15, "info": 20, "warn": 30, "warning": 30, "error": 40, "fatal": 50}
_RESERVED = ("config", "butler", "log")


class _IdOption(NamedTuple):
    """An option of data ids; each command that is parsed has a container of its own."""

    name: str
    datasetType: str | DynamicDatasetType
    level: str | None
    makes_refs: bool
    ContainerClass: type[DataIdContainer]


class ArgumentParser(argparse.ArgumentParser):
    """Reads the options that all command-line tasks have; add others as with `argparse`.

    Parameters
    ----------
    name : str
        Name of the task.
    butler : callable, optional
        Makes the Butler of a repository from its path; default `FolderButler`. Given two paths, the outputs' is made
        from the second.
    **kwargs
        For `argparse.ArgumentParser`.

    Notes
    -----
    ``@file`` on the command line is replaced by the words in the file, with ``#`` comments.
    """

    def __init__(
        self, name: str, usage: str = "%(prog)s input [options]", butler: Callable[[str], Any] = FolderButler,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self._name = name
        self._makeButler = butler
        self._idOptions: dict[str, _IdOption] = {}
        kwargs.setdefault("fromfile_prefix_chars", "@")
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(usage=usage, **kwargs)
        self.add_argument("input", help="folder of the input datasets")
        self._add_data_options()
        self._add_config_options()
        self._add_run_options()

    def _add_data_options(self) -> None:
        add = self.add_argument
        add("--output", metavar="FOLDER", help="folder of the output datasets; default: that of the input")
        add("--show", nargs="+", default=(), metavar="WHAT",
            help="config[=PATTERN], data or tasks: show it and end; with run also: show it and run")  # fmt: skip

    def _add_config_options(self) -> None:
        add = self.add_argument
        add("-c", "--config", nargs="*", action=_ConfigValues, metavar="NAME=VALUE", help="set fields")
        add("-C", "--config-file", "--configfile", dest="configfile", nargs="*", action=_ConfigFiles, metavar="FILE",
            help="run files of Python that set fields of `config`")  # fmt: skip
        add("--clobber-config", action="store_true", dest="clobberConfig",
            help="replace a stored configuration that differs; it is kept as a backup (~1)")  # fmt: skip
        add("--no-backup-config", action="store_true", dest="noBackupConfig", help="without the backup")
        add("--clobber-versions", action="store_true", dest="clobberVersions", help="the same for package versions")
        add("--no-versions", action="store_true", dest="noVersions", help="neither write nor compare versions")

    def _add_run_options(self) -> None:
        add = self.add_argument
        add("-L", "--loglevel", nargs="*", action=_LogLevels, default={}, dest="logLevels",
            metavar="[LOGGER=]LEVEL", help=f"one of {', '.join(_LEVELS)}")  # fmt: skip
        add("--doraise", action="store_true", help="raise the exception of a target that fails")
        add("--noExit", action="store_true", help="do not end the program when targets fail")
        add("--profile", metavar="FILE", help="write a profile by cProfile of this process")
        add("-j", "--processes", type=_positive, default=1, metavar="N", help="targets at a time")
        add("-t", "--timeout", type=_whole_time, metavar="SECONDS", help="for the whole run; default: 30 days")
        add("--timeout-per-target", type=_seconds, dest="timeoutPerTarget", metavar="SECONDS",
            help="after which a target is ended and has failed")  # fmt: skip
        add("--no-isolation", action="store_false", dest="isolate", default=argparse.SUPPRESS,
            help="several targets share a process; their peaks do too")  # fmt: skip
        add("--run_folder", dest="runFolder", metavar="FOLDER", help="where the run directory is made")

    def add_id_argument(
        self,
        name: str,
        datasetType: str | DynamicDatasetType,
        help: str,
        level: str | None = None,
        doMakeDataRefList: bool = True,
        ContainerClass: type[DataIdContainer] = DataIdContainer,
    ) -> None:
        """Add an option for data ids, such as ``--id``.

        Its container is the attribute of that name (``id``) of the parsed command.

        Parameters
        ----------
        datasetType : str, DatasetArgument or ConfigDatasetType
            What the data ids select, or where its name is found.
        doMakeDataRefList : bool
            Whether references are made too, `DataIdContainer.refList`.
        ContainerClass : type
            A subclass of `DataIdContainer`.

        Raises
        ------
        SettingError
            If the parsed command has an attribute of that name already.
        """
        destination = name.lstrip("-").replace("-", "_")
        if destination in (*_RESERVED, *self._idOptions, *(action.dest for action in self._actions)):
            raise SettingError(f"an option of data ids cannot be called {name!r}: the name is taken.")
        self._idOptions[destination] = _IdOption(name, datasetType, level, doMakeDataRefList, ContainerClass)
        self.add_argument(
            name, nargs="*", action="append", default=None, dest=f"_{destination}",
            metavar="KEY=VALUE1[^VALUE2...]", help=help.replace("%", "%%"),
        )  # fmt: skip
        if not isinstance(datasetType, str):
            datasetType.addArgument(self, destination)

    def parse_args(  # type: ignore[override]
        self,
        config: Any = None,
        args: Sequence[str] | None = None,
        log: logging.Logger | None = None,
        override: Callable[[Any], object] | None = None,
    ) -> argparse.Namespace:
        """Return the parsed command.

        Parameters
        ----------
        config : Config, optional
            Changed by ``--config`` and ``--configfile``, in their order.
        args : list of str, optional
            Default ``sys.argv[1:]``.
        log : logging.Logger, optional
        override : callable, optional
            Changes the configuration before the command line does.

        Returns
        -------
        argparse.Namespace
            With ``config``, ``log``, ``butler``, and for each option of data ids its container.

        Raises
        ------
        SystemExit
            2 for an option that cannot be used, after a message; 0 after ``--show`` without ``run``.
        """
        if config is None:
            config = Config()
        if override is not None:
            override(config)
        logger = log or logging.getLogger(self._name)
        namespace = argparse.Namespace(config=config, log=logger)
        try:
            super().parse_args(args, namespace)
            _set_levels(namespace, log)
            self._add_butler(namespace)
            show(namespace, self._read_ids(namespace))
            config.validate()
            if hasattr(config, "freeze"):
                config.freeze()
        except RunmemError as error:
            self.error(str(error))
        return namespace

    def _add_butler(self, namespace: argparse.Namespace) -> None:
        root = Path(namespace.input)
        if self._makeButler is FolderButler and not root.is_dir():
            raise SettingError(f"the input {str(root)!r} is not a folder.")
        if self._makeButler is FolderButler:  # a target may be anywhere when it reads
            namespace.input = str(root.absolute())
            namespace.output = namespace.output and str(Path(namespace.output).absolute())
        namespace.butler = self._makeButler(namespace.input)
        if namespace.output is not None:
            namespace.butler = InputAndOutput(namespace.butler, self._makeButler(namespace.output))

    def _read_ids(self, namespace: argparse.Namespace) -> dict[str, DataIdContainer]:
        """Set the containers of data ids in the parsed command, and return them."""
        found = {}
        for destination, option in self._idOptions.items():
            container = found[destination] = option.ContainerClass(level=option.level)
            kind = option.datasetType
            container.setDatasetType(kind if isinstance(kind, str) else kind.getDatasetType(namespace))
            for words in vars(namespace).pop(f"_{destination}") or []:
                container.idList += parse_data_ids(words, option.name) or [{}]
            if option.makes_refs:
                container.makeDataRefList(namespace)
            setattr(namespace, destination, container)
        return found

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Return the words of a line of an ``@file``."""
        return shlex.split(arg_line, comments=True, posix=True)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and end with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


class _ConfigValues(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        for word in values:
            name, equals, text = word.partition("=")
            if not equals or not name or not text:
                raise SettingError(f"{option_string}: {word!r} is not of the form NAME=VALUE.")
            override(namespace.config, name, text)


class _ConfigFiles(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        for path in values:
            override_from_file(namespace.config, path)


class _LogLevels(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        found = dict(namespace.logLevels)
        for word in values:
            name, _, level = word.rpartition("=")
            if level.lower() in _LEVELS:
                found[name] = _LEVELS[level.lower()]
            elif level.isdigit():
                found[name] = int(level)
            else:
                raise SettingError(f"{option_string}: {level!r} is not a level; the levels are {', '.join(_LEVELS)}.")
        namespace.logLevels = found


def _set_levels(namespace: argparse.Namespace, log: logging.Logger | None) -> None:
    """Set the levels of loggers; the plain level is also that of a log that was given."""
    if log is not None and "" in namespace.logLevels:
        log.setLevel(namespace.logLevels[""])
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s: %(message)s")
        namespace.logLevels = {"": logging.INFO, **namespace.logLevels}
    for name, level in namespace.logLevels.items():
        logging.getLogger(name or None).setLevel(level)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _whole_time(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds
