"""The command line of a command-line task."""

from __future__ import annotations

import argparse
import fnmatch
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from runmem.errors import RunmemError, SettingError
from runmem.metrics.butler import FolderButler
from runmem.task_runner.config import Config, override, override_from_file, text_of
from runmem.task_runner.data_ids import DataIdContainer, data_id_of, parse_data_ids
from runmem.task_runner.input_and_output import InputAndOutput

__all__ = ["ArgumentParser"]

_LEVELS = {"trace": 5, "debug": 10, "verbose": 15, "info": 20, "warn": 30, "warning": 30, "error": 40, "fatal": 50}
_SHOWN = ("config", "data", "run")


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
    ``@file`` on the command line stands for the words in the file, with ``#`` comments.
    """

    def __init__(
        self, name: str, usage: str = "%(prog)s input [options]", butler: Callable[[str], Any] = FolderButler,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self._name = name
        self._makeButler = butler
        self._idOptions: dict[str, tuple[str, DataIdContainer, bool]] = {}
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
            help="config[=PATTERN] or data: show it and end; with run also: show it and run")  # fmt: skip

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
        datasetType: str,
        help: str,
        level: str | None = None,
        doMakeDataRefList: bool = True,
        ContainerClass: type[DataIdContainer] = DataIdContainer,
    ) -> None:
        """Add an option for data ids, such as ``--id``.

        Its container is the attribute of that name (``id``) of the parsed command.

        Parameters
        ----------
        datasetType : str
            What the data ids select.
        doMakeDataRefList : bool
            Whether references are made too, `DataIdContainer.refList`.
        ContainerClass : type
            A subclass of `DataIdContainer`.
        """
        destination = name.lstrip("-").replace("-", "_")
        container = ContainerClass(level=level)
        container.setDatasetType(datasetType)
        self._idOptions[destination] = (name, container, doMakeDataRefList)
        self.add_argument(
            name, nargs="*", action="append", default=None, dest=f"_{destination}",
            metavar="KEY=VALUE1[^VALUE2...]", help=help.replace("%", "%%"),
        )  # fmt: skip

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
            if not logging.getLogger().handlers:
                logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s: %(message)s")
                namespace.logLevels = {"": logging.INFO, **namespace.logLevels}
            for name, level in namespace.logLevels.items():
                logging.getLogger(name or None).setLevel(level)
            self._add_butler(namespace)
            self._read_ids(namespace)
            config.validate()
            if hasattr(config, "freeze"):
                config.freeze()
        except RunmemError as error:
            self.error(str(error))
        _show(namespace)
        return namespace

    def _add_butler(self, namespace: argparse.Namespace) -> None:
        root = Path(namespace.input)
        if self._makeButler is FolderButler and not root.is_dir():
            raise SettingError(f"the input {str(root)!r} is not a folder.")
        namespace.butler = self._makeButler(str(root))
        if namespace.output is not None:
            namespace.butler = InputAndOutput(namespace.butler, self._makeButler(namespace.output))

    def _read_ids(self, namespace: argparse.Namespace) -> None:
        for destination, (option, container, makes_refs) in self._idOptions.items():
            given = vars(namespace).pop(f"_{destination}") or []
            for words in given:
                container.idList += parse_data_ids(words, option) or [{}]
            if makes_refs:
                container.makeDataRefList(namespace)
            setattr(namespace, destination, container)

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
                raise SettingError(f"{option_string}: {level!r} is no level; they are {', '.join(_LEVELS)}.")
        namespace.logLevels = found


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


def _show(namespace: argparse.Namespace) -> None:
    """Print what ``--show`` asks for; end the program unless ``run`` is among it."""
    for what in namespace.show:
        kind, _, pattern = what.partition("=")
        if kind not in _SHOWN:
            raise SystemExit(f"--show: {what!r} is not one of {', '.join(_SHOWN)}")
        if kind == "config":
            print(_matching(text_of(namespace.config), pattern))
        elif kind == "data":
            for container in _containers(vars(namespace).values()):
                for ref in container.refList:
                    print(f"dataRef={data_id_of(ref)}")
    if namespace.show and "run" not in namespace.show:
        sys.stdout.flush()
        raise SystemExit(os.EX_OK)


def _matching(text: str, pattern: str) -> str:
    """Return the lines of a configuration whose field matches a pattern of file names, such as ``*threshold*``."""
    if not pattern:
        return text
    lines = [line for line in text.splitlines() if line.startswith("config.")]
    name = pattern.removeprefix("config.")
    wanted = [line for line in lines if fnmatch.fnmatch(line.partition("=")[0].removeprefix("config."), name)]
    return "\n".join(wanted)


def _containers(values: Iterable[Any]) -> list[DataIdContainer]:
    return [value for value in values if isinstance(value, DataIdContainer)]
