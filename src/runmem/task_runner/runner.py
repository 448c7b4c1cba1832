"""`TaskRunner`: runs a command-line task on all of its targets."""

from __future__ import annotations

import cProfile
import logging
import sys
import traceback
from contextlib import AbstractContextManager, ExitStack
from typing import Any, ClassVar

from runmem.clusters.child_imports import is_embedded_worker
from runmem.errors import ArgumentError, SettingError
from runmem.pipe_base.struct import Struct
from runmem.task_runner.data_ids import described
from runmem.task_runner.errors import TaskError, exit_error
from runmem.task_runner.failures import TargetFailure, failed_result
from runmem.task_runner.implicit_threading import disableImplicitThreading

__all__ = ["ButlerInitializedTaskRunner", "LegacyTaskRunner", "TaskRunner"]


class TaskRunner:
    """Runs a task on a list of targets, on several processes if asked to.

    It fits a task whose ``runDataRef`` takes a data reference. For another one, a subclass overrides

    1. `getTargetList`, if ``runDataRef`` takes a data reference and keyword arguments: the target is
       ``(dataRef, kwargs)``;
    2. `getTargetList` and `runTask` (or `__call__`), if its signature is another one: a target is then whatever
       `__call__` understands.

    Parameters
    ----------
    TaskClass : type
        The task; made once for each target.
    parsedCmd : argparse.Namespace
        What `ArgumentParser.parse_args` returned. Read are ``config``, ``log``, ``doraise``, ``clobberConfig``,
        ``noBackupConfig``, ``processes``, ``timeout`` (seconds), and beside the original ``timeoutPerTarget``
        (seconds) and ``isolate``; all but the first three may be missing.
    doReturnResults : bool
        Whether results come back. They may fill the memory of the program, and must be what can be pickled.

    Attributes
    ----------
    TIMEOUT : int
        Seconds that a run may take where no timeout is given: 30 days. A subclass may set another; with one process
        the targets then run in a process beside the program, as they do with ``--timeout``.
    TaskClass, doReturnResults, config, log, doRaise, clobberConfig, doBackup, numProcesses, timeout
        From the arguments.
    isolate : bool
        Whether each target has a fresh process of its own, so that its peak is its own; the default.
    localPool : bool
        Whether targets on this machine may run in processes forked from the program, without a cluster; the default.
    timeoutPerTarget : float or None
        Seconds after which a target is ended; needs `isolate`.
    failures : list of TargetFailure
        The targets that failed in the last `run`, where they ran on several processes or `__call__` is this class's.
    precallFailed : bool
        Whether `precall` of the last `run` said no.

    Raises
    ------
    SettingError
        If a time limit a target is asked for without isolation, or one that is not above 0.
    """

    TIMEOUT: ClassVar[int] = 3600 * 24 * 30
    isolate: bool = True
    localPool: bool = True

    def __init__(self, TaskClass: Any, parsedCmd: Any, doReturnResults: bool = False) -> None:
        self.TaskClass = TaskClass
        self.doReturnResults = bool(doReturnResults)
        self.config = parsedCmd.config
        self.log: logging.Logger | None = parsedCmd.log
        self.doRaise = bool(parsedCmd.doraise)
        self.clobberConfig = bool(getattr(parsedCmd, "clobberConfig", False))
        self.doBackup = not bool(getattr(parsedCmd, "noBackupConfig", False))
        self.numProcesses = int(getattr(parsedCmd, "processes", 1) or 1)
        given: float | None = getattr(parsedCmd, "timeout", None)
        self.timeout: float | None = self.TIMEOUT if given is None or given <= 0 else given
        self.timeoutPerTarget: float | None = getattr(parsedCmd, "timeoutPerTarget", None)
        self.isolate = bool(getattr(parsedCmd, "isolate", type(self).isolate))
        # In the program's own process a target cannot be ended, and its peak is not its own: that takes a worker.
        has_own_timeout = next(base for base in type(self).__mro__ if "TIMEOUT" in vars(base)) is not TaskRunner
        is_limited = self.timeout is given or has_own_timeout or self.timeoutPerTarget is not None
        self._needsWorker = is_limited or bool(getattr(parsedCmd, "isolate", False))
        self.failures: list[TargetFailure] = []
        self.precallFailed = False
        self.runFolder = getattr(parsedCmd, "runFolder", None)
        self.logLevels: dict[str, int] = dict(getattr(parsedCmd, "logLevels", None) or {})
        if not TaskClass.canMultiprocess and (self.numProcesses > 1 or self._needsWorker):
            ignored = "; timeouts and isolation have no effect there" if self._needsWorker else ""
            self._logger().warning("This task does not support multiprocessing; using one process%s", ignored)
            self.numProcesses, self._needsWorker = 1, False
        if self.timeoutPerTarget is not None and not self.timeoutPerTarget > 0:
            raise SettingError(
                f"timeoutPerTarget={self.timeoutPerTarget!r}: give seconds above 0, or None for no limit"
            )
        if self.timeoutPerTarget is not None and not self.isolate:
            raise SettingError(
                f"a timeout per target ({self.timeoutPerTarget:g} s) needs a process per target: leave out "
                "--no-isolation."
            )

    def _logger(self) -> logging.Logger:
        return self.log or logging.getLogger(getattr(self.TaskClass, "_DefaultName", self.TaskClass.__name__))

    def prepareForMultiProcessing(self) -> None:
        """Drop what cannot travel to another process."""
        self.log = None

    def run(self, parsedCmd: Any) -> list[Any]:
        """Run the task on all targets and return what `__call__` returned, in their order.

        Returns
        -------
        list
            Empty if there is no target, or if `precall` said no.

        Raises
        ------
        Exception
            That of the first target that failed, if ``doraise`` was asked for.
        RunTimeoutError
            If it takes longer than `timeout` on several processes; all targets have been ended then.
        """
        disableImplicitThreading()
        log, self.failures = self._logger(), []
        parallel = self.numProcesses > 1 or self._needsWorker
        if parallel and is_embedded_worker():
            log.warning("Inside a task of a run there are no further processes; using one process, without a timeout")
            parallel = False
        if parallel:
            self.prepareForMultiProcessing()
        self.precallFailed = not self.precall(parsedCmd)
        if self.precallFailed:
            return []
        targets = list(self.getTargetList(parsedCmd))
        if not targets:
            log.warning(
                'Not running the task because there is no data to process; you may preview data using "--show data"'
            )
            return []
        with _profiled(getattr(parsedCmd, "profile", None), log):
            if parallel:
                from runmem.task_runner.targets import run_targets  # here: one process does not need it

                results, self.failures = run_targets(self, targets)
            else:
                results = [self._result(target) for target in targets]
        self._report(log, len(targets))
        return results

    def _report(self, log: logging.Logger, targets: int) -> None:
        if self.failures:
            lines = "\n".join(f"  {failure}" for failure in self.failures)
            log.error("%d of %d targets failed:\n%s", len(self.failures), targets, lines)

    @staticmethod
    def getTargetList(parsedCmd: Any, **kwargs: Any) -> list[Any]:
        """Return the targets: ``(dataRef, kwargs)`` for each reference of ``parsedCmd.id.refList``."""
        return [(ref, kwargs) for ref in parsedCmd.id.refList]

    def makeTask(self, parsedCmd: Any = None, args: Any = None) -> Any:
        """Return a task: for `precall`, with `parsedCmd`, and for each target, with its `args`."""
        return self.TaskClass(config=self.config, log=self.log)

    def precall(self, parsedCmd: Any) -> bool:
        """Do what is to be done once, before all targets; False: do not run any.

        Writes configuration, schemas and versions of packages to ``parsedCmd.butler``, or compares them with those that
        are there. Without a Butler nothing is written.
        """
        task = self.makeTask(parsedCmd=parsedCmd)
        if getattr(parsedCmd, "butler", None) is None:
            return True
        if self.doRaise:
            self._precallImpl(task, parsedCmd)
            return True
        try:
            self._precallImpl(task, parsedCmd)
        except Exception as error:
            task.log.critical("Failed in task initialization: %s", error)
            if not isinstance(error, TaskError):
                traceback.print_exc(file=sys.stderr)
            return False
        return True

    def _precallImpl(self, task: Any, parsedCmd: Any) -> None:
        butler = parsedCmd.butler
        if not getattr(parsedCmd, "noVersions", False):
            clobber = bool(getattr(parsedCmd, "clobberVersions", False))
            task.writePackageVersions(butler, clobber=clobber)
        task.writeConfig(butler, clobber=self.clobberConfig, doBackup=self.doBackup)
        task.writeSchemas(butler, clobber=self.clobberConfig, doBackup=self.doBackup)

    def __call__(self, args: Any) -> Any:
        """Run the task on one target.

        Parameters
        ----------
        args : tuple
            ``(dataRef, kwargs)``.

        Returns
        -------
        Struct
            ``exitStatus``, 0 or 1; with `doReturnResults` also ``dataRef``, ``metadata``, and ``result`` (None if it
            failed).
        """
        dataRef = args[0] if isinstance(args, (tuple, list)) and args else args
        if self.log is None:
            self.log = self._logger()
        task = self.makeTask(args=args)
        result, exitStatus = None, 0
        if self.doRaise:
            try:
                result = self._runTarget(task, args)
            except SystemExit as request:
                raise exit_error(request) from request
        else:
            try:
                result = self._runTarget(task, args)
            except (Exception, SystemExit) as error:
                exitStatus = 1
                self._note(task, args, exit_error(error) if isinstance(error, SystemExit) else error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if hasattr(task, "writeMetadata"):
            task.writeMetadata(dataRef)
        if self.doReturnResults:
            return Struct(exitStatus=exitStatus, dataRef=dataRef, metadata=task.metadata, result=result)
        return Struct(exitStatus=exitStatus)

    def _result(self, target: Any) -> Any:
        """Call the runner on a target, and return its result; ``sys.exit`` fails this target only."""
        try:
            return self(target)
        except SystemExit as request:
            error = exit_error(request)
            if self.doRaise:
                raise error from request
            self.failures.append(TargetFailure(described(target), f"{type(error).__name__}: {error}"))
            return failed_result(target, self.doReturnResults)

    def _runTarget(self, task: Any, args: Any) -> Any:
        dataRef, kwargs = args
        return self.runTask(task, dataRef, kwargs)

    def _note(self, task: Any, args: Any, error: BaseException) -> None:
        name = described(args)
        self.failures.append(TargetFailure(name, f"{type(error).__name__}: {error}"))
        task.log.critical("Failed on %s: %s: %s", name, type(error).__name__, error)
        if not isinstance(error, TaskError):
            traceback.print_exception(error, file=sys.stderr)

    def runTask(self, task: Any, dataRef: Any, kwargs: Any) -> Any:
        """Call the task on one target; override it for a task with another signature."""
        return task.runDataRef(dataRef, **kwargs)


class LegacyTaskRunner(TaskRunner):
    """A runner of tasks that are called by ``run(dataRef)``."""

    def runTask(self, task: Any, dataRef: Any, kwargs: Any) -> Any:
        """Call the task's ``run`` on one target."""
        return task.run(dataRef, **kwargs)


class ButlerInitializedTaskRunner(TaskRunner):
    """A runner of tasks that are made with the keyword ``butler``."""

    def makeTask(self, parsedCmd: Any = None, args: Any = None) -> Any:
        """Return a task, made with the Butler of the parsed command or of the target's data reference."""
        if parsedCmd is None and args is None:
            raise ArgumentError(f"{type(self).__name__}.makeTask: give parsedCmd or args.")
        butler = parsedCmd.butler if parsedCmd is not None else args[0].getButler()
        return self.TaskClass(config=self.config, log=self.log, butler=butler)


def _profiled(path: str | None, log: logging.Logger) -> AbstractContextManager[Any]:
    """Write a profile by `cProfile` of what runs inside in this process, if there is a path for it."""
    stack = ExitStack()  # not a `contextmanager`, which sets attributes of what is raised inside
    if path:
        profiler = cProfile.Profile()
        stack.callback(_dump, profiler, path, log)
        profiler.enable()
    return stack


def _dump(profiler: cProfile.Profile, path: str, log: logging.Logger) -> None:
    profiler.disable()
    profiler.dump_stats(path)
    log.info("cProfile stats written to %s", path)
