"""Workers as jobs of a batch system, submitted by dask-jobqueue from the machine of the program, a login node."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from runmem.clusters.address import check_versions
from runmem.clusters.contract import Cluster
from runmem.clusters.in_process_scheduler import InProcessScheduler, split_address, worker_variables
from runmem.clusters.security import TlsSecurity, run_security
from runmem.dask_logging import import_dask, set_dask_log_level
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings
from runmem.units import GIB

__all__ = ["JobQueueCluster"]

_QUEUE_POLL_S = 3.0
_DEFAULT_MEMORY_BYTES = 2 * GIB
_SCRATCH = "RUNMEM_SCRATCH"  # shell variable of a job: Dask's folder
_NO_DASHBOARD = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")  # Dask serves metrics without a password


class JobQueueCluster(Cluster):
    """Jobs of a batch system with one worker each. Subclasses set the attributes of their system.

    Queue, project, time limit and further directives are settings of dask-jobqueue (``jobqueue.<system>`` in Dask's
    configuration: ``queue``, ``account``, ``walltime``, ``interface``, ``job-extra-directives``, ...).

    Attributes
    ----------
    dask_class : str
        Name of the class in `dask_jobqueue`.
    program : str
        Command that submits a job.
    required_options : dict
        Required settings of dask-jobqueue with our defaults.
    """

    dask_class: ClassVar[str]
    program: ClassVar[str]
    required_options: ClassVar[dict[str, str]] = {}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.workers is None:
            raise SettingError(f"--cluster {self.kind} needs --workers: the number of jobs, one worker each.")
        self._jobs = settings.workers
        import_dask()  # before dask-jobqueue imports it with its own changes to logging
        try:
            self._class = getattr(_dask_jobqueue(), self.dask_class)
        except ImportError as error:
            raise ClusterError(
                f"--cluster {self.kind} needs the package dask-jobqueue ({error}): pip install 'runmem[jobqueue]'."
            ) from error
        if shutil.which(self.program) is None:
            raise ClusterError(
                f"--cluster {self.kind}: there is no `{self.program}` on the PATH. Start runmem on a login node of the "
                "cluster, or load the module of its batch system."
            )
        self._security = run_security(settings, "the scheduler of this run and the workers in its jobs")
        self._scheduler = InProcessScheduler()
        self._tls_folder: Path | None = None

    def _start(self) -> None:
        """Submit the jobs and wait, as long as the queue takes, for the first worker."""
        set_dask_log_level(logging.ERROR)
        try:
            self._client = self._scheduler.start(lambda folder: self._class(**self._options()), {})
            self.dashboard_token = self._scheduler.dashboard_token
            self._submit()
            self._wait_for_worker(self._queue_check())
            check_versions(self._client.get_versions(packages=["runmem"]))
            set_dask_log_level(logging.CRITICAL)  # the run itself reports what happens to its workers
        except (ClusterError, SettingError):
            raise
        except Exception as error:
            raise ClusterError(
                f"--cluster {self.kind}: the cluster did not start: {type(error).__name__}: {error}"
            ) from error

    def _submit(self) -> None:
        """Submit the jobs and raise the errors of the batch system, which `scale` would only log."""
        cluster = self._scheduler.cluster
        while len(cluster.worker_spec) < self._jobs:
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            cluster.sync(cluster._correct_state)
        except RuntimeError as error:
            message = str(error).partition("stderr:")[2].strip() or str(error)
            if (fault := self.fault_in_system(message)) is not None:
                raise ClusterError(f"--cluster {self.kind}: the jobs cannot be submitted: {fault}.") from error
            raise ClusterError(
                f"--cluster {self.kind}: the batch system refuses the jobs of the workers: {message}\nQueue, account "
                f"and time limit are set in Dask's configuration, section jobqueue.{self._section()}."
            ) from error

    def fault_in_system(self, message: str) -> str | None:
        """Return the fault of the batch system that an error message reports; None for other errors."""
        return None

    def _section(self) -> str:
        return str(self._class.job_cls.default_config_name())

    def _options(self) -> dict[str, object]:
        """Return the arguments of dask-jobqueue's class; its configuration provides the others."""
        from dask import config

        from runmem.clusters.dashboard_pages import WITHOUT_PAGES

        section = f"jobqueue.{self._section()}"
        memory = self.settings.worker_memory_bytes or config.get(f"{section}.memory", None) or _DEFAULT_MEMORY_BYTES
        prologue = list(config.get(f"{section}.job-script-prologue", None) or [])
        if self.settings.env_script is not None:
            prologue.append(f". {shlex.quote(str(self.settings.env_script.absolute()))} >&2")
        variables = worker_variables(self.settings.python_memory_profile)
        prologue += [f"export {name}={value}" for name, value in variables.items()]
        prologue += self._scratch_commands(section)
        scheduler: dict[str, object] = {"dashboard_address": "127.0.0.1:0", **WITHOUT_PAGES}
        if self.settings.master_address is not None:
            scheduler["host"], scheduler["port"] = split_address(self.settings.master_address)
        options: dict[str, object] = {
            "cores": 1,
            "processes": 1,
            "memory": f"{memory}B" if isinstance(memory, int) else memory,
            "job_script_prologue": prologue,
            "scheduler_options": scheduler,
            "local_directory": f'"${_SCRATCH}"',
            "worker_extra_args": [*(config.get(f"{section}.worker-extra-args", None) or []), *_NO_DASHBOARD],
        }
        for name, default in self.required_options.items():
            options[name] = config.get(f"{section}.{name}", None) or default
        if self._security is not None:
            options["security"] = self._write_security(self._security)
        return options

    @staticmethod
    def _scratch_commands(section: str) -> list[str]:
        """Return shell commands that make a folder (0700) for Dask on the node and remove it at the end of the job."""
        from dask import config

        python = config.get(f"{section}.python", None) or shlex.quote(sys.executable)
        make = f"{python} -P -m runmem.store.scratch $$"
        if (base := config.get(f"{section}.local-directory", None)) is not None:
            make = f"mkdir -p -- {base} && TMPDIR={base} {make}"  # unquoted: it may contain a variable of the node
        return [f"{_SCRATCH}=$({make}) || exit 1", f"trap 'rm -rf -- \"${_SCRATCH}\"' EXIT"]

    def _write_security(self, security: TlsSecurity) -> Any:
        """Write the certificate to a folder (0700) in the current one, which the nodes must share."""
        self._tls_folder = Path(tempfile.mkdtemp(prefix=".runmem-tls-", dir=os.getcwd()))
        return security.write(self._tls_folder / "tls").dask()

    def _queue_check(self) -> Callable[[], None]:
        """Make a function that prints why the jobs wait, at most every few seconds."""
        printed, asked_s = None, 0.0

        def check() -> None:
            nonlocal printed, asked_s
            if time.monotonic() - asked_s < _QUEUE_POLL_S:
                return
            asked_s = time.monotonic()
            workers = self._scheduler.cluster.workers.values()
            jobs = [str(job.job_id) for job in workers if getattr(job, "job_id", None)]
            if (reason := self.why_waiting(jobs)) is not None and reason != printed:
                printed = reason
                print(f"runmem: waiting for the first of {len(jobs)} jobs: {reason}", file=sys.stderr, flush=True)

        return check

    def why_waiting(self, jobs: Sequence[str]) -> str | None:
        """Return the batch system's reason for waiting; None if there is none.

        Raises
        ------
        ClusterError
            If no job will ever start.
        """
        return f"{', '.join(jobs)} of {self.kind} (Ctrl-C cancels them)"

    def close(self, abandon: bool = False) -> None:
        """Cancel the jobs and end the scheduler."""
        cluster = self._scheduler.cluster
        self._scheduler.close()
        if cluster is not None:
            cluster.shutdown_on_close = False  # else Dask tries again for 10 s when Python ends
        self._client = None
        if self._tls_folder is not None:
            shutil.rmtree(self._tls_folder, ignore_errors=True)
            self._tls_folder = None


def _dask_jobqueue() -> ModuleType:
    """Import dask_jobqueue and restore the handler of Ctrl-C, which its import replaces by an exit with code 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return import_module("dask_jobqueue")
    finally:
        if before is not None and signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
