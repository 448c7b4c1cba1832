"""Workers as jobs of a batch system, sent from where the program runs, a login node: through dask-jobqueue."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from runmem.clusters.address import check_versions
from runmem.clusters.contract import Cluster
from runmem.clusters.own_scheduler import worker_configuration
from runmem.clusters.security import TlsSecurity, run_security
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings
from runmem.store.scratch import make_scratch, remove_abandoned_scratch
from runmem.units import GIB

__all__ = ["JobQueueCluster"]

_POLL_S = 0.2
_ASK_S = 3.0  # between two questions to the batch system
_MEMORY_BYTES = 2 * GIB
_SCRATCH = "RUNMEM_SCRATCH"  # variable of the shell in a job: the folder that Dask has there
_NO_DASHBOARD = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")  # Dask serves numbers without a password


class JobQueueCluster(Cluster):
    """One worker a job. A kind of batch system is a subclass with three attributes.

    Queue, project, time limit and further directives are dask-jobqueue's own settings (``jobqueue.<system>`` in Dask's
    configuration: ``queue``, ``account``, ``walltime``, ``interface``, ``job-extra-directives``, ...).

    Attributes
    ----------
    dask_class : str
        Name of the class in `dask_jobqueue`.
    program : str
        The command that submits a job.
    insists_on : dict
        Settings of dask-jobqueue that this kind cannot do without: name to what we take if nothing is configured.
    """

    lazy: ClassVar[bool] = False
    dask_class: ClassVar[str]
    program: ClassVar[str]
    insists_on: ClassVar[dict[str, str]] = {}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.workers is None:
            raise SettingError(f"--cluster {self.kind} needs --workers: how many jobs to submit, one worker each.")
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
        self._folder: Path | None = None
        self._scratch: Path | None = None
        self._cluster: Any = None
        self._client: Any = None

    def connect(self) -> Any:
        """Submit the jobs; wait, for as long as the queue lets us, until the first of them has joined."""
        import dask
        import distributed

        from runmem.clusters.dashboard_pages import NO_ROUTES_YET, offer_pages

        if self._client is not None:
            return self._client
        path = list(sys.path)
        try:
            remove_abandoned_scratch()
            self._scratch = make_scratch()
            with dask.config.set({"temporary-directory": str(self._scratch), **NO_ROUTES_YET}):
                self._cluster = self._class(**self._options())
            self.dashboard_token = offer_pages(self._cluster.scheduler)
            sys.path[:] = path  # Dask adds the folder, and the program would import from there
            self._client = distributed.Client(self._cluster, set_as_default=False)
            self._submit(self.settings.workers or 1)
            self._wait_for_a_worker()
            check_versions(self._client.get_versions(packages=["runmem"]))
        except BaseException as error:
            self.close(abandon=True)
            if isinstance(error, Exception) and not isinstance(error, (ClusterError, SettingError)):
                raise ClusterError(
                    f"--cluster {self.kind}: the cluster did not start: {type(error).__name__}: {error}"
                ) from error
            raise
        return self._client

    def _submit(self, jobs: int) -> None:
        """Submit the jobs and raise what the batch system has against them, which `scale` would only log."""
        while len(self._cluster.worker_spec) < jobs:
            self._cluster.worker_spec.update(self._cluster.new_worker_spec())
        try:
            self._cluster.sync(self._cluster._correct_state)
        except RuntimeError as error:
            message = str(error).partition("stderr:")[2].strip() or str(error)
            if (fault := self.fault_in_system(message)) is not None:
                raise ClusterError(f"--cluster {self.kind}: the jobs cannot be submitted: {fault}.") from error
            raise ClusterError(
                f"--cluster {self.kind}: the batch system refuses the jobs of the workers: {message}\nQueue, account "
                f"and time limit are set in Dask's configuration, section jobqueue.{self._section()}."
            ) from error

    def fault_in_system(self, message: str) -> str | None:
        """Name what is wrong with the batch system itself, from its command's message; None if it is not that."""
        return None

    def _section(self) -> str:
        return str(self._class.job_cls.default_config_name())

    def _options(self) -> dict[str, Any]:
        """Return the arguments of dask-jobqueue's class; what they leave out comes from its configuration."""
        from dask import config

        from runmem.clusters.dashboard_pages import PAGES_LATER

        section = f"jobqueue.{self._section()}"
        memory = self.settings.worker_memory_bytes or config.get(f"{section}.memory", None) or _MEMORY_BYTES
        prologue = list(config.get(f"{section}.job-script-prologue", None) or [])
        if self.settings.env_script is not None:
            prologue.append(f". {shlex.quote(str(self.settings.env_script.absolute()))} >&2")
        for name, value in worker_configuration(self.settings.python_memory_profile).items():
            variable = "DASK_" + name.upper().replace(".", "__")
            prologue.append(f"export {variable}={value}")
        prologue += self._scratch_of_job(section)
        scheduler: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", **PAGES_LATER}
        if self.settings.master_address is not None:
            parts = urlsplit(f"//{self.settings.master_address}")
            scheduler |= {"host": parts.hostname, "port": parts.port or 0}
        options: dict[str, Any] = {
            "cores": 1, "processes": 1, "memory": f"{memory}B" if isinstance(memory, int) else memory,
            "job_script_prologue": prologue, "scheduler_options": scheduler, "local_directory": f'"${_SCRATCH}"',
            "worker_extra_args": [*(config.get(f"{section}.worker-extra-args", None) or []), *_NO_DASHBOARD],
        }  # fmt: skip
        for name, value in self.insists_on.items():
            options[name] = config.get(f"{section}.{name}", None) or value
        if self._security is not None:
            options["security"] = self._security_of_jobs(self._security)
        return options

    @staticmethod
    def _scratch_of_job(section: str) -> list[str]:
        """Return the lines of the shell that make a folder for Dask (0700) on the node, and remove it with the job."""
        from dask import config

        python = config.get(f"{section}.python", None) or shlex.quote(sys.executable)
        make = f"{python} -P -m runmem.store.scratch $$"
        if (base := config.get(f"{section}.local-directory", None)) is not None:
            make = f"mkdir -p -- {base} && TMPDIR={base} {make}"  # as it stands: it may name a variable of the node's
        return [f"{_SCRATCH}=$({make}) || exit 1", f"trap 'rm -rf -- \"${_SCRATCH}\"' EXIT"]

    def _security_of_jobs(self, security: TlsSecurity) -> Any:
        """Write the certificate where the jobs read it: a folder of ours (0700) in this one, which nodes must share."""
        import distributed

        self._folder = Path(tempfile.mkdtemp(prefix=".runmem-tls-", dir=os.getcwd()))
        files = security.write(self._folder / "tls")
        roles = {f"tls_{role}_{part}": str(getattr(files, part)) for role in ("client", "scheduler", "worker")
                 for part in ("cert", "key")}  # fmt: skip
        return distributed.Security(require_encryption=True, tls_ca_file=str(files.ca), **roles)

    def _wait_for_a_worker(self) -> None:
        shown, asked = None, 0.0
        while not self._client.scheduler_info(n_workers=-1)["workers"]:
            if time.monotonic() - asked > _ASK_S:
                asked = time.monotonic()
                jobs = [str(job.job_id) for job in self._cluster.workers.values() if getattr(job, "job_id", None)]
                if (why := self.why_waiting(jobs)) is not None and why != shown:
                    shown = why
                    print(f"runmem: waiting for the first of {len(jobs)} jobs: {why}", file=sys.stderr, flush=True)
            time.sleep(_POLL_S)

    def why_waiting(self, jobs: Sequence[str]) -> str | None:
        """Return what the batch system says of jobs that have not joined yet; None: nothing new.

        Raises
        ------
        ClusterError
            If none of them will ever start.
        """
        return f"{', '.join(jobs)} of {self.kind} (Ctrl-C cancels them)"

    def close(self, abandon: bool = False) -> None:
        """Cancel the jobs and end the scheduler."""
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(Exception):  # also one that never came to run
                    part.close()
        if self._cluster is not None:
            self._cluster.shutdown_on_close = False  # else Dask tries again for 10 s when Python ends
        self._client = self._cluster = None
        for folder in (self._folder, self._scratch):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        self._folder = self._scratch = None


def _dask_jobqueue() -> Any:
    """Import dask_jobqueue. Its import makes Ctrl-C a plain exit with code 0; the program's own handler is put back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return import_module("dask_jobqueue")
    finally:
        if before is not None and signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
