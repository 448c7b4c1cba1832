"""The embedded cluster: scheduler and workers on this machine, on loopback, for the time of the program."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

from runmem.clusters.child_imports import WORKER_NAME, interrupts_ignored_in_workers, patch_spawn
from runmem.clusters.contract import Cluster
from runmem.clusters.in_process_scheduler import (
    InProcessScheduler,
    shared_memory_configuration,
    usable_cores,
    worker_configuration,
)
from runmem.clusters.security import TlsSecurity, require_insecure, run_security, security_from_files
from runmem.deaths import Cause, Death
from runmem.errors import ClusterError, SettingError
from runmem.memory.causes_of_death import death_of_process
from runmem.memory.kernel_kills import KernelKills
from runmem.memory.limits import memory_limit, reserve_bytes, share
from runmem.memory.process import own_process
from runmem.settings import Settings
from runmem.units import format_bytes

__all__ = ["EmbeddedCluster", "apply_environment", "kill_embedded_workers", "script_environment", "worker_count"]

_KILL_S = 5.0
_START_ATTEMPTS = 3
_SHELL_VARIABLES = {"_", "SHLVL", "PWD", "OLDPWD"}
_OPEN_FILES, _OPEN_FILES_PER_WORKER = 24, 15  # measured with 1, 2, 4 and 8 workers: 37, 51, 79 and 144 files
_applied_scripts: set[Path] = set()


def worker_count(settings: Settings) -> int:
    """Return the number of worker processes: as set, else one per core that this process may use."""
    return settings.workers or usable_cores()


def check_open_files(workers: int) -> None:
    """Raise the limit of open files of this process to the need of a cluster.

    Raises
    ------
    SettingError
        If that is not allowed.
    """
    needed = _OPEN_FILES + _OPEN_FILES_PER_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingError(
            f"this process may have {hard} open files, and a cluster of {workers} worker{'s' * (workers != 1)} needs "
            f"{needed}: allow more (`ulimit -n {max(256, needed)}`), or use fewer workers (--workers)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def script_environment(script: Path) -> dict[str, str]:
    """Return the environment variables that a shell script sets or changes; none if this process has applied it.

    Raises
    ------
    SettingError
        If the script is missing or fails; its output is shown.
    """
    if script.absolute() in _applied_scripts:
        return {}
    return {name: value for name, value in _sourced(script).items() if os.environ.get(name) != value}


def apply_environment(script: Path) -> None:
    """Change the environment of this process as if it had been started after sourcing a shell script.

    The folders of a new ``PYTHONPATH`` are inserted after the first of `sys.path`. Variables that are read only at the
    start of a process, such as ``LD_LIBRARY_PATH``, affect only the child processes.

    Raises
    ------
    SettingError
        As `script_environment`.
    """
    after = _sourced(script)
    for name in [name for name in os.environ if name not in after and name not in _SHELL_VARIABLES]:
        del os.environ[name]
    before = os.environ.get("PYTHONPATH", "")
    os.environ.update(after)
    _applied_scripts.add(script.absolute())
    if (path := after.get("PYTHONPATH", "")) != before:
        new = [os.path.abspath(folder) for folder in path.split(os.pathsep) if folder]
        sys.path[1:1] = [folder for folder in dict.fromkeys(new) if folder not in sys.path]


def _sourced(script: Path) -> dict[str, str]:
    """Source a shell script and return the resulting environment."""
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
    # This includes exported functions of the shell (BASH_FUNC_name%%=...).
    return {name: value for name, _, value in pairs if name not in _SHELL_VARIABLES}


def kill_embedded_workers() -> None:
    """Kill the workers started by this process, including those of a cluster that is still starting."""
    for process in multiprocessing.active_children():
        if process.name.startswith(WORKER_NAME):
            process.kill()


def _preloads(protocol: str) -> list[str]:
    """Return the modules that a worker imports before it connects: the user's, then ours."""
    import dask

    from runmem.clusters import local_worker, loopback

    given = dask.config.get("distributed.worker.preload", None) or []
    ours = [local_worker.__name__, *([loopback.__name__] if protocol == loopback.SCHEME else [])]
    return [*([given] if isinstance(given, str) else given), *ours]


def _is_alive(pid: int) -> bool:
    """Return True if a child process runs, without reaping it, which its nanny does."""
    import psutil  # here, because it takes 10 ms

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
    """Replace the callback of a Dask nanny that restarts an ended worker."""


class EmbeddedCluster(Cluster):
    """One worker process per core, with one thread each, so that the peak of a process belongs to one task."""

    kind: ClassVar[str] = "local"
    lazy: ClassVar[bool] = True
    starts_nodes: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._scheduler = InProcessScheduler()
        self._configuration = ExitStack()
        self.workers = worker_count(settings)
        check_open_files(self.workers)
        limit = memory_limit()
        self.worker_memory_bytes = settings.worker_memory_bytes or share(limit, self.workers)
        if self.worker_memory_bytes * self.workers > limit.limit_bytes and settings.worker_memory_bytes:
            count = f"{self.workers} workers" if self.workers > 1 else "one worker"
            sizes = format_bytes(self.worker_memory_bytes), format_bytes(limit.limit_bytes)
            text = "runmem: warning: %s of %s may use more than the %s that %s allows"
            logging.getLogger("runmem").warning(text, count, *sizes, limit.source)
        self._reserved_bytes = 0
        if settings.memory_aware and settings.worker_memory_bytes is None:
            self._reserved_bytes = reserve_bytes(limit.limit_bytes)
            self.worker_memory_bytes = limit.limit_bytes - self._reserved_bytes
        elif settings.memory_aware:
            self.worker_memory_bytes *= self.workers
        self._given_security = security_from_files(settings)  # here, to report errors before the program starts
        self._environment = script_environment(settings.env_script) if settings.env_script is not None else {}

    def taken_bytes(self) -> int:
        """Return the memory of the program beyond what is reserved for it; 0 where --worker_memory sets the limit."""
        if not self._reserved_bytes:
            return 0
        return max(0, own_process().resident_bytes() - self._reserved_bytes)

    def _start(self) -> None:
        """Start scheduler and workers, again if a worker dies during the start, for example from lack of memory."""
        from runmem.dask_private import report_exits  # here, because it imports Dask

        patch_spawn()
        protocol, security = self._protection()
        kills = KernelKills()
        deaths: list[Death] = []  # until the workers are ready
        end_of_exits = report_exits(lambda pid, code: deaths.append(death_of_process(code, kills)))
        try:
            for attempt in range(1, _START_ATTEMPTS + 1):
                deaths.clear()
                try:
                    with interrupts_ignored_in_workers():
                        self._start_once(protocol, security)
                    break
                except Exception as error:
                    first = deaths[0] if deaths else None  # the others were ended because this one had died
                    self.close()
                    worker_died = "Nanny failed to start" in str(error)
                    if attempt == _START_ATTEMPTS or not worker_died:
                        failure = self._failure(error, worker_died, first)
                        raise ClusterError(failure) from (None if worker_died else error)
        finally:
            end_of_exits()

    def _failure(self, error: Exception, worker_died: bool, death: Death | None) -> str:
        what = f"the embedded cluster of {self.workers} worker{'s' * (self.workers != 1)} did not start"
        if not worker_died:
            return f"{what}: {type(error).__name__}: {error}"
        what += f": a worker process ended before it was ready, {_START_ATTEMPTS} times in a row"
        if death is not None:
            what += f". The last time {death.words}"
        if death is not None and death.cause is Cause.EXIT:
            return (
                f"{what}. What it wrote is above. It may be unable to import its packages: "
                f"`{sys.executable} -c 'import distributed'` must work here."
            )
        if death is not None and death.is_for_memory:
            return f"{what}. Fewer --workers need less memory."
        return (
            f"{what}. Either it was killed (by lack of memory or a limit on processes), or it cannot import its "
            f"packages: `{sys.executable} -c 'import distributed'` must work here. Fewer --workers need less memory."
        )

    def _start_once(self, protocol: str, security: TlsSecurity | None) -> None:
        import dask

        # During the life of the cluster: after 15 s Dask would end the nanny of a worker that has not restarted, which
        # takes longer on a busy machine. Without nannies, tasks would wait forever.
        self._configuration.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "365 days"}))
        client = self._scheduler.start_local(
            "127.0.0.1",
            0,
            protocol,
            security,
            configuration={
                **worker_configuration(self.settings.python_memory_profile),
                **(shared_memory_configuration(self.workers) if self.shares_memory else {}),
            },
            n_workers=self.workers,
            threads_per_worker=1,
            memory_limit=self.worker_memory_bytes,
            preload=_preloads(protocol),
            env=self._environment,
        )
        if self.settings.log_level == "off":  # a result that cannot be unpickled is reported as the program's error
            logging.getLogger("distributed.protocol.core").setLevel(logging.CRITICAL + 1)
        self.dashboard_token = self._scheduler.dashboard_token
        self._client = client

    def _protection(self) -> tuple[str, TlsSecurity | None]:
        """Return the scheme of Dask's addresses and the certificates, if any, of this run.

        Loopback alone is not enough: all users of this machine could run tasks as this user.
        """
        from runmem.clusters import loopback

        if self.settings.insecure:
            require_insecure(self.settings, "the ports of this run, which all users of this machine can reach")
            return "tcp", None
        if self._given_security is not None:
            return "tls", self._given_security
        if loopback.can_look_up_owners():
            return loopback.SCHEME, None
        return "tls", run_security(self.settings, "")

    def end_workers(self) -> bool:
        """Kill the workers, prevent restarts and wait until they are dead."""
        if self._scheduler.cluster is None:
            return False
        nannies = self._scheduler.cluster.workers.values()
        for nanny in nannies:
            nanny._on_worker_exit = _no_other_worker
        pids = [nanny.pid for nanny in nannies if nanny.pid is not None]
        for pid in [*pids, *_started_by(pids)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + _KILL_S
        while (alive := any(map(_is_alive, pids))) and time.monotonic() < deadline_s:
            time.sleep(0.001)
        return not alive

    def close(self, abandon: bool = False) -> None:
        """End workers and scheduler. `abandon` kills workers instead of waiting some seconds for running tasks."""
        if abandon:
            self.end_workers()
        self._scheduler.close()
        self._client = None
        self._configuration.close()
