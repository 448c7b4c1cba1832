"""Starts the workers of one node for a remote scheduler; run once per node by a batch system or ssh.

    python -m runmem.clusters.node_workers <<< '{"scheduler": "tls://10.0.0.1:8786", ...}'

Standard input provides the address and the certificate of the run (`Invitation`, one line of JSON), because all users
of the node can read command lines. The workers end when standard input does, so no process outlives the master, however
it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runmem.clusters.address import check_reachable
from runmem.clusters.in_process_scheduler import local_address_to, shared_memory_configuration, usable_cores
from runmem.clusters.invitation import Invitation
from runmem.clusters.local_worker import ignore_signal
from runmem.clusters.security import TlsSecurity
from runmem.memory.limits import memory_limit, reserve_bytes
from runmem.store.node_name import node_name
from runmem.store.scratch import make_scratch, remove_abandoned_scratch

if TYPE_CHECKING:
    from distributed import Nanny

__all__ = ["available_cores", "main", "memory_per_worker", "number_of_workers"]

_NANNIES_CLOSE_S = 10
_LOG_LEVEL = logging.ERROR  # Dask warns about every closed connection


def available_cores(environment: Mapping[str, str]) -> int:
    """Return the number of cores of this node for the Slurm step, else for this process."""
    given = environment.get("SLURM_CPUS_ON_NODE", "")
    return int(given) if given.isdecimal() and int(given) else usable_cores()


def number_of_workers(invitation: Invitation, environment: Mapping[str, str]) -> int:
    """Return the number of workers of this node."""
    if invitation.all_workers is None:
        return invitation.workers or available_cores(environment)
    nodes, number = int(environment["SLURM_STEP_NUM_NODES"]), int(environment["SLURM_NODEID"])
    return invitation.all_workers // nodes + (number < invitation.all_workers % nodes)


def memory_per_worker(limit_bytes: int, workers: int) -> int:
    """Return the memory limit of a worker in bytes: an equal share, after reserving a tenth (at most 1 GiB).

    The reserve is for the program with its scheduler on the first node, and for the nannies.
    """
    return (limit_bytes - reserve_bytes(limit_bytes)) // workers


def ignore_sigterm(*_: object) -> None:
    """Ignore SIGTERM in this process, but not in its children, whose pools of processes end by it.

    A batch system sends SIGTERM to all processes of a job that is cancelled or out of time, and SIGKILL some time later
    (Slurm's KillWait, 30 s). In between the master ends the run, and collects measurements from the workers. This is
    also the ``dask_setup`` of a preload, which Dask calls in a starting worker.
    """
    ignore_signal(signal.SIGTERM, signal.SIG_DFL)


dask_setup = ignore_sigterm


async def _serve(invitation: Invitation, workers: int, limit_bytes: int, ended: asyncio.Event) -> int:
    """Run the workers until the scheduler or standard input ends (exit code 0); 1 if none can start."""
    from distributed import Nanny

    try:
        check_reachable(invitation.scheduler)  # fails sooner than Dask
    except OSError as error:
        print(
            f"runmem: node {node_name()} cannot reach the master at {invitation.scheduler}: {error}. Is there a "
            "firewall? --master_address sets another address or port.",
            file=sys.stderr,
        )
        return 1
    security = TlsSecurity(**invitation.security).dask() if invitation.security else None
    address = local_address_to(str(urlsplit(invitation.scheduler).hostname))
    remove_abandoned_scratch()
    with _scratch() as folder:
        nannies = [
            Nanny(
                invitation.scheduler,
                nthreads=1,
                name=f"{node_name()}-{os.getpid()}-{number}",  # the scheduler may still know those of a lost connection
                memory_limit=limit_bytes,
                local_directory=folder,
                host=address,
                security=security,
                silence_logs=_LOG_LEVEL,
                preload=["runmem.clusters.node_workers"],
                death_timeout=60,
                dashboard_address="127.0.0.1:0",  # Dask serves metrics there without a password
                dashboard=False,
            )
            for number in range(workers)
        ]
        started = await asyncio.gather(*nannies, return_exceptions=True)
        errors = [error for error in started if isinstance(error, BaseException)]
        for fault in errors:
            print(f"runmem: a worker of node {node_name()} did not start: {fault!r}", file=sys.stderr)
        if len(errors) < len(nannies):
            if invitation.joined:
                print(invitation.joined, file=sys.stderr, flush=True)
            finished = asyncio.ensure_future(_wait_finished(nannies))
            stop = asyncio.ensure_future(ended.wait())
            await asyncio.wait([stop, finished], return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await _kill_workers(nannies)
    return 1 if len(errors) == len(nannies) else 0


@contextmanager
def _scratch() -> Iterator[str]:
    folder = make_scratch()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _kill_workers(nannies: Sequence[Nanny]) -> None:
    """Kill the workers with their running tasks, and close the nannies."""
    logging.disable()  # messages about closed connections and dead workers
    for nanny in nannies:
        nanny.auto_restart = False
        if nanny.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)
    closed = asyncio.gather(*(nanny.close(timeout=2) for nanny in nannies), return_exceptions=True)
    with suppress(TimeoutError):
        await asyncio.wait_for(closed, _NANNIES_CLOSE_S)


async def _wait_finished(nannies: Sequence[Nanny]) -> None:
    for nanny in nannies:
        await nanny.finished()


async def _run(invitation: Invitation) -> int:
    import dask

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while sys.stdin.read(4096):
            continue
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, name="runmem-stdin", daemon=True).start()
    workers = number_of_workers(invitation, os.environ)
    limit = memory_limit()
    limit_bytes = invitation.worker_memory_bytes or memory_per_worker(limit.limit_bytes, workers)
    configuration = invitation.configuration
    if invitation.shares_memory:  # each may use what all may use together
        limit_bytes *= workers
        configuration = {**configuration, **shared_memory_configuration(workers)}
    with dask.config.set(configuration):
        return await _serve(invitation, workers, limit_bytes, ended)


def main() -> int:
    """Start the workers for the invitation on standard input; return the exit code when they have ended."""
    ignore_sigterm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the master, which ends this process
    import distributed  # noqa: F401  # while the master starts its scheduler

    logging.getLogger("distributed").setLevel(_LOG_LEVEL)
    line = sys.stdin.readline()
    if not line:
        return 0
    try:
        invitation = Invitation.from_line(line)
    except ValueError as error:
        print(f"runmem: error: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_run(invitation))


if __name__ == "__main__":
    sys.exit(main())
