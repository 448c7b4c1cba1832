"""`CmdLineTask`: a task that is a program."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import packages_distributions, version
from typing import Any, ClassVar

from runmem.pipe_base.butler import Butler
from runmem.pipe_base.struct import Struct
from runmem.task_runner.argument_parser import ArgumentParser
from runmem.task_runner.configurations import compare, restored, text_of
from runmem.task_runner.errors import TaskError
from runmem.task_runner.failures import exit_code
from runmem.task_runner.input_and_output import output_of
from runmem.task_runner.runner import TaskRunner
from runmem.task_runner.task import Task

__all__ = ["CmdLineTask"]


class CmdLineTask(Task):
    """A task with a command line: ``MyTask.parseAndRun()`` is the whole program.

    Subclasses have ``ConfigClass``, ``_DefaultName`` and ``runDataRef(dataRef)``.

    Attributes
    ----------
    RunnerClass : type
        `TaskRunner`, or a subclass for a task with another signature.
    canMultiprocess : bool
        False for a task that must run in one process.
    """

    RunnerClass: ClassVar[type[TaskRunner]] = TaskRunner
    canMultiprocess: ClassVar[bool] = True

    @classmethod
    def applyOverrides(cls, config: Any) -> None:
        """Override to change the configuration before the command line does."""

    @classmethod
    def parseAndRun(
        cls,
        args: Sequence[str] | None = None,
        config: object = None,
        log: logging.Logger | None = None,
        doReturnResults: bool = False,
    ) -> Struct:
        """Parse a command line and run the task on all its targets.

        Parameters
        ----------
        args : list of str, optional
            Default ``sys.argv[1:]``.
        config : Config, optional
            Default ``ConfigClass()``.
        log : logging.Logger, optional
        doReturnResults : bool
            Whether the results come back, see `TaskRunner`.

        Returns
        -------
        Struct
            ``argumentParser``, ``parsedCmd``, ``taskRunner`` and ``resultList``.

        Raises
        ------
        SystemExit
            If targets failed: with their number, at most 255; if `TaskRunner.precall` said no: with 1. Not with
            ``--noExit``.
        """
        words = sys.argv if args is None else [cls._DefaultName, *args]
        argumentParser = cls._makeArgumentParser()
        parsedCmd = argumentParser.parse_args(
            config=cls.ConfigClass() if config is None else config,
            args=None if args is None else list(args),
            log=log,
            override=cls.applyOverrides,
        )
        parsedCmd.log.info("Running: %s", shlex.join(words))
        taskRunner = cls.RunnerClass(TaskClass=cls, parsedCmd=parsedCmd, doReturnResults=doReturnResults)
        resultList = taskRunner.run(parsedCmd)
        if resultList is None:  # of a runner whose `run` is its own
            parsedCmd.log.warning("Unable to retrieve exit status: the runner returned None; assuming success")
            resultList = []
        failed = sum(bool(getattr(result, "exitStatus", 0)) for result in resultList)
        if parsedCmd.noExit and failed:
            parsedCmd.log.error("%d dataRefs failed; not exiting as --noExit was set", failed)
        elif failed or taskRunner.precallFailed and not parsedCmd.noExit:
            sys.exit(exit_code(resultList) or 1)
        return Struct(argumentParser=argumentParser, parsedCmd=parsedCmd, taskRunner=taskRunner, resultList=resultList)

    @classmethod
    def _makeArgumentParser(cls) -> ArgumentParser:
        """Return the parser of the command line; override to add options or other data ids."""
        parser = ArgumentParser(name=cls._DefaultName)
        parser.add_id_argument(name="--id", datasetType="raw", help="data IDs, e.g. --id visit=12345 ccd=1^2")
        return parser

    # --- datasets beside the results ----------------------------------------------------------------------------------

    def writeConfig(self, butler: Butler, clobber: bool = False, doBackup: bool = True) -> None:
        """Store the configuration as ``<name>_config``, or compare it with the one in the output.

        Raises
        ------
        TaskError
            If they differ, with the differences; not with `clobber`, which replaces it.
        """
        name = self._getConfigName()
        if name is None:
            return
        butler = output_of(butler)
        if not clobber and butler.exists(name):
            differences: list[str] = []
            with _readable(f"the configuration in the output ({name})", "--clobber-config"):
                old = restored(self.config, butler.get(name))
            if not compare(self.config, old, differences.append):
                raise TaskError(
                    f"the configuration of {self.getFullName()} differs from the one in the output ({name}); all data "
                    "there must be made with one configuration (override with --clobber-config):\n  "
                    + "\n  ".join(differences)
                )
            return
        _put(butler, text_of(self.config), name, doBackup)

    def writeSchemas(self, butler: Butler, clobber: bool = False, doBackup: bool = True) -> None:
        """Store the schemas of `getAllSchemaCatalogs` as ``<dataset>_schema``, or compare them. Raises `TaskError`."""
        butler = output_of(butler)
        for dataset, catalog in self.getAllSchemaCatalogs().items():
            name = f"{dataset}_schema"
            schema = _plain(catalog.getSchema() if hasattr(catalog, "getSchema") else catalog)
            if not clobber and butler.exists(name):
                with _readable(f"the schema in the output ({name})", "--clobber-config"):
                    old = butler.get(name)
                if old != schema:
                    raise TaskError(
                        f"the schema of {dataset} differs from the one in the output ({name}; override with "
                        f"--clobber-config):\n  new: {schema}\n  stored: {old}"
                    )
            else:
                _put(butler, schema, name, doBackup)

    def writePackageVersions(
        self, butler: Butler, clobber: bool = False, doBackup: bool = True, dataset: str = "packages"
    ) -> None:
        """Store the versions of the packages that are imported, or compare them with those that are stored.

        A package that is not among the stored ones is added.

        Raises
        ------
        TaskError
            If a version differs; not with `clobber`, which replaces it.
        """
        now, butler = _versions(), output_of(butler)
        if clobber or not butler.exists(dataset):
            _put(butler, now, dataset, doBackup)
            return
        with _readable(f"the versions in the output ({dataset})", "--clobber-versions, or --no-versions"):
            old = dict(butler.get(dataset))
        if changed := sorted(name for name in now if name in old and now[name] != old[name]):
            lines = "\n  ".join(f"{name}: {now[name]} != {old[name]}" for name in changed)
            raise TaskError(
                "versions differ from those in the output (override with --clobber-versions, or --no-versions):\n  "
                + lines
            )
        if set(now) - set(old):
            _put(butler, {**old, **now}, dataset, doBackup)

    def writeMetadata(self, dataRef: object) -> None:
        """Store the metadata as ``<name>_metadata``; a failure is logged only."""
        try:
            name = self._getMetadataName()
            if name is not None and hasattr(dataRef, "put"):
                dataRef.put(self.getFullMetadata(), name)
        except Exception as error:
            self.log.warning("Could not persist metadata for dataId=%s: %s", getattr(dataRef, "dataId", dataRef), error)

    def _getConfigName(self) -> str | None:
        """Return the name of the configuration's dataset; None: it is not stored."""
        return f"{self._DefaultName}_config"

    def _getMetadataName(self) -> str | None:
        """Return the name of the metadata's dataset; None: they are not stored."""
        return f"{self._DefaultName}_metadata"


@contextmanager
def _readable(what: str, remedy: str) -> Iterator[None]:
    """Add to an error raised inside what to do about a stored dataset that cannot be read."""
    try:
        yield
    except Exception as error:
        raise TaskError(f"{what} cannot be compared: {str(error).rstrip('.')} (override with {remedy})") from error


def _put(butler: Butler, content: object, name: str, backup: bool) -> None:
    if backup and butler.exists(name):
        try:
            butler.put(content, name, doBackup=True)
            return
        except TypeError:  # a Butler that keeps its datasets apart anyway
            pass
    butler.put(content, name)


def _plain(schema: object) -> object:
    """Return a schema as what comes back from JSON."""
    return json.loads(json.dumps(schema, default=str))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    of = packages_distributions()
    for module in {name.partition(".")[0] for name in list(sys.modules)}:
        for distribution in of.get(module, ()):
            found[distribution] = version(distribution)
    return dict(sorted(found.items()))
