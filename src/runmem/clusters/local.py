"""The embedded cluster: scheduler and workers on this machine, on loopback, started and ended with the program."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar

from runmem.clusters.contract import Cluster
from runmem.clusters.security import TlsSecurity, given_security, refuse_or_warn, run_security
from runmem.clusters.spawning import WORKER_NAME, control_spawning
from runmem.dask_logging import handlers_hidden, set_dask_level
from runmem.errors import ClusterError, SettingError
from runmem.memory.limits import memory_limit, share
from runmem.settings import Settings
from runmem.store.scratch import make_scratch, remove_abandoned_scratch
from runmem.units import format_bytes

__all__ = [
    "EmbeddedCluster", "environment_of", "kill_embedded_workers", "put_in_force", "worker_count",
]  # fmt: skip

_DEAD_S = 5.0
_STARTS = 3
_OF_THE_SHELL = {"_", "SHLVL", "PWD", "OLDPWD"}
_OPEN_FILES, _OPEN_FILES_A_WORKER = 24, 15  # of a run with 1, 2, 4 and 8 workers: 37, 51, 79 and 144
_in_force: set[Path] = set()


def worker_count(settings: Settings) -> int:
    """Return how many worker processes to start: as asked, else one a core that this process may use."""
    return settings.workers or (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def check_open_files(workers: int) -> None:
    """See that this process may have as many files open as a cluster of so many workers takes; raise the limit to that.

    Raises
    ------
    SettingError
        If that is not allowed.
    """
    needed = _OPEN_FILES + _OPEN_FILES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingError(
            f"this process may have {hard} files open, and a cluster of {workers} worker{'s' * (workers != 1)} takes "
            f"{needed}: allow more (`ulimit -n {max(256, needed)}`), or ask for fewer workers (--workers)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def environment_of(script: Path) -> dict[str, str]:
    """Return the environment variables that sourcing a shell script sets or changes; none if they are in force here.

    Raises
    ------
    SettingError
        If the script is missing or fails; its output is shown.
    """
    if script.absolute() in _in_force:
        return {}
    return {name: value for name, value in _sourced(script).items() if os.environ.get(name) != value}


def put_in_force(script: Path) -> None:
    """Give this process the environment that sourcing a shell script leads to, as if it had been started in it.

    The folders of a new ``PYTHONPATH`` are imported from, after the first of `sys.path`. What is read when a process
    starts and never again, such as ``LD_LIBRARY_PATH``, holds for the processes that this one starts.

    Raises
    ------
    SettingError
        As `environment_of`.
    """
    after = _sourced(script)
    for name in [name for name in os.environ if name not in after and name not in _OF_THE_SHELL]:
        del os.environ[name]
    before = os.environ.get("PYTHONPATH", "")
    os.environ.update(after)
    _in_force.add(script.absolute())
    if (path := after.get("PYTHONPATH", "")) != before:
        new = [os.path.abspath(folder) for folder in path.split(os.pathsep) if folder]
        sys.path[1:1] = [folder for folder in dict.fromkeys(new) if folder not in sys.path]


def _sourced(script: Path) -> dict[str, str]:
    """Return the environment after a shell script was sourced."""
    if not script.is_file():
        raise SettingError(f"--env_script: {str(script)!r} is not a file.")
    command = ["bash", "-c", 'set -e; . "$1" >&2; env -0', "bash", str(script.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise SettingError(f"--env_script needs bash: {error}.") from error
    if done.returncode:
        raise SettingError(
            f"--env_script: {str(script)!r} ended with exit code {done.returncode}:\n"
            f"{done.stderr.decode(errors='replace')}"
        )
    pairs = (item.partition("=") for item in os.fsdecode(done.stdout).split("\0") if "=" in item)
    # An exported function of the shell (BASH_FUNC_name%%=...) is a variable like others.
    return {name: value for name, _, value in pairs if name not in _OF_THE_SHELL}


def kill_embedded_workers() -> None:
    """Kill the workers that this process has started, also those of a cluster that is still starting."""
    for process in multiprocessing.active_children():
        if process.name.startswith(WORKER_NAME):
            process.kill()


def _preloads(protocol: str) -> list[str]:
    """Return the modules that a worker imports before it connects: the user's, and ours."""
    import dask

    from runmem.clusters import local_worker
    from runmem.clusters.loopback import SCHEME
    from runmem.clusters.loopback import __name__ as module

    asked = dask.config.get("distributed.worker.preload", None) or []
    ours = [local_worker.__name__, *([module] if protocol == SCHEME else [])]
    return [*([asked] if isinstance(asked, str) else asked), *ours]


def _is_alive(pid: int) -> bool:
    """Tell whether a child process runs; its exit code stays there for its nanny."""
    import psutil  # here: it costs 10 ms

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _started_by(pids: list[int]) -> list[int]:
    """Return the processes that workers have started for tasks: not the sampler, which has a session of its own."""
    import psutil

    found = []
    for pid in pids:
        with suppress(psutil.Error, OSError):
            session = os.getsid(pid)
            found += [p.pid for p in psutil.Process(pid).children(recursive=True) if os.getsid(p.pid) == session]
    return found


async def _no_other_worker(exit_code: int) -> None:
    """Take the place of what a Dask nanny does when its worker has ended: start another."""


class EmbeddedCluster(Cluster):
    """One worker process a core, one thread each: a task's peak is then its own."""

    kind: ClassVar[str] = "local"
    lazy: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._cluster: Any = None
        self._folder: str | None = None
        self._client: Any = None
        self._configuration = ExitStack()
        self.workers = worker_count(settings)
        check_open_files(self.workers)
        limit = memory_limit()
        self.worker_memory_bytes = settings.worker_memory_bytes or share(limit, self.workers)
        if self.worker_memory_bytes * self.workers > limit.limit_bytes and settings.worker_memory_bytes:
            of_them = f"{self.workers} workers" if self.workers > 1 else "one worker"
            logging.getLogger("runmem").warning(
                "runmem: warning: %s of %s may use more than the %s that %s allows",
                of_them, format_bytes(self.worker_memory_bytes), format_bytes(limit.limit_bytes), limit.source,
            )  # fmt: skip
        self._given_security = given_security(settings)  # now: what cannot be used is told before the program starts
        self._environment = environment_of(settings.env_script) if settings.env_script is not None else {}

    def connect(self) -> Any:
        """Start scheduler and workers; what was started is returned again."""
        if self._client is not None:
            return self._client
        control_spawning()
        protocol, security = self._protection()
        for attempt in range(1, _STARTS + 1):
            try:
                self._start(protocol, security)
                break
            except Exception as error:
                self.close()
                worker_died = "Nanny failed to start" in str(error)
                if attempt < _STARTS and worker_died:  # killed, for want of memory say; the next one may live
                    continue
                raise ClusterError(self._why_not(error, worker_died)) from (None if worker_died else error)
        return self._client

    def _why_not(self, error: Exception, worker_died: bool) -> str:
        """Say why the cluster did not start."""
        what = f"the embedded cluster of {self.workers} worker{'s' * (self.workers != 1)} did not start"
        if not worker_died:
            return f"{what}: {type(error).__name__}: {error}"
        return (
            f"{what}: a worker process ended before it was ready, {_STARTS} times in a row. Was it killed (for want of "
            f"memory, by a limit on processes), or can it not import its packages? `{sys.executable} -c 'import "
            "distributed'` must work here; fewer --workers need less memory."
        )

    def _start(self, protocol: str, security: TlsSecurity | None) -> None:
        import dask
        import distributed

        from runmem.clusters.dashboard_pages import NO_ROUTES_YET, PAGES_LATER, offer_pages

        # Dask's own profiler holds on to the frames of running tasks, and so to memory that a task has given up.
        # A daemonic process may have no children, and a task may want some; workers end with us in any case.
        own: dict[str, Any] = {
            "distributed.worker.profile.enabled": not self.settings.python_memory_profile,
            "distributed.worker.daemon": False,
        }
        # For as long as the cluster lives: Dask ends the nanny of a worker that has not come back after 15 s, and a
        # busy machine takes longer. The last nanny would leave a cluster in which tasks wait for ever.
        self._configuration.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "365 days"}))
        remove_abandoned_scratch()
        self._folder = str(make_scratch())
        path = list(sys.path)
        set_dask_level(logging.CRITICAL)
        # The scheduler's folder too: its default is a name that anybody can take first, and is written to.
        own |= {"temporary-directory": self._folder, **NO_ROUTES_YET}
        with dask.config.set(own), handlers_hidden():
            self._cluster = distributed.LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol=protocol,
                security=security.dask() if security is not None else None,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs=PAGES_LATER,
                memory_limit=self.worker_memory_bytes,
                preload=_preloads(protocol),
                env=self._environment,
                local_directory=self._folder,
                silence_logs=logging.CRITICAL,
            )
        self.dashboard_token = offer_pages(self._cluster.scheduler)
        if self.settings.log_level == "off":  # a result that cannot be unpickled is an error of the program's
            logging.getLogger("distributed.protocol.core").setLevel(logging.CRITICAL + 1)
        sys.path[:] = path  # Dask adds the folder, and the program would import from there
        self._client = distributed.Client(self._cluster, set_as_default=False)

    def _protection(self) -> tuple[str, TlsSecurity | None]:
        """Return the scheme of Dask's addresses and the certificates, if any, of this run.

        Loopback alone keeps nobody out who has an account on this machine: any of them could have tasks run as us.
        """
        from runmem.clusters import loopback

        if self.settings.insecure:
            refuse_or_warn(self.settings, "the ports of this run, which every user of this machine reaches")
            return "tcp", None
        if self._given_security is not None:
            return "tls", self._given_security
        if loopback.tells_owners():
            return loopback.SCHEME, None
        return "tls", run_security(self.settings, "")

    def end_workers(self) -> bool:
        """Kill the workers and wait until they are dead."""
        if self._cluster is None:
            return False
        for nanny in self._cluster.workers.values():
            nanny._on_worker_exit = _no_other_worker
        pids = [nanny.pid for nanny in self._cluster.workers.values() if nanny.pid is not None]
        for pid in [*pids, *_started_by(pids)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _DEAD_S
        while (alive := any(map(_is_alive, pids))) and time.monotonic() < deadline:
            time.sleep(0.001)
        return not alive

    def close(self, abandon: bool = False) -> None:
        """End workers and scheduler. A worker that runs a task would be waited for some seconds: `abandon` kills it."""
        if abandon:
            self.end_workers()
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
        self._client = self._cluster = None
        self._configuration.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
