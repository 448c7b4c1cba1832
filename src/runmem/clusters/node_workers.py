"""The workers of one node, for a scheduler elsewhere: started by a batch system or by ssh, once on each node.

    python -m runmem.clusters.node_workers <<< '{"scheduler": "tls://10.0.0.1:8786", ...}'

Whom to join, and the certificate that lets it in, come on standard input (`Invitation`, one line of JSON): neither the
command line, which everybody on the node can read, nor a file has the key. When standard input ends, so do the workers:
no process outlives the master that holds the other end, however that one died.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from runmem.clusters.address import check_reachable
from runmem.clusters.invitation import Invitation
from runmem.clusters.security import TlsSecurity
from runmem.memory.limits import memory_limit
from runmem.store.node_name import node_name
from runmem.store.scratch import make_scratch, remove_abandoned_scratch
from runmem.units import GIB

__all__ = ["main", "available_cores", "number_of_workers", "worker_memory_bytes"]

_CLOSE_S = 10
_LOG_LEVEL = logging.ERROR  # Dask warns of every connection that ends


def available_cores(environment: Mapping[str, str]) -> int:
    """Return the cores that this process may use: what Slurm gives the step on this node, else its affinity."""
    given = environment.get("SLURM_CPUS_ON_NODE", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_of_workers(invitation: Invitation, environment: Mapping[str, str]) -> int:
    """Return how many workers this node starts."""
    if invitation.all_workers is None:
        return invitation.workers or available_cores(environment)
    nodes, number = int(environment["SLURM_STEP_NUM_NODES"]), int(environment["SLURM_NODEID"])
    return invitation.all_workers // nodes + (number < invitation.all_workers % nodes)


def worker_memory_bytes(limit_bytes: int, workers: int) -> int:
    """Return what each worker of a node may use: a share of the limit, less a tenth (1 GiB at most) for the rest.

    The rest is the program with its scheduler on the first node, and the process that watches the workers.
    """
    return (limit_bytes - min(GIB, limit_bytes // 10)) // workers


def own_address(scheduler: str) -> str:
    """Return the address of this node on the network that leads to the scheduler."""
    parts = urlsplit(scheduler)
    with socket.socket(
        socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET, socket.SOCK_DGRAM
    ) as probe:
        probe.connect((parts.hostname, parts.port))  # sends nothing: the kernel chooses the route
        return str(probe.getsockname()[0])


def ignore_sigterm(*_: object) -> None:
    """Install a handler that lets SIGTERM pass, in this process and not in its children.

    A batch system sends SIGTERM to every process of a job that is cancelled or out of time, and SIGKILL after a while
    (Slurm's KillWait, 30 s). The master ends the run in between, and it needs the workers to hear what they measured.
    Also the ``dask_setup`` of a preload, which Dask calls in a worker that starts.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    os.register_at_fork(after_in_child=_default_termination)


dask_setup = ignore_sigterm


def _default_termination() -> None:
    """Give a forked child the ordinary SIGTERM: pools of processes end their children by it."""
    with suppress(ValueError):  # forked by a thread: Python lets only the main one set signals
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def _serve(invitation: Invitation, workers: int, limit_bytes: int, ended: asyncio.Event) -> int:
    """Run the workers until the scheduler lets them go (0), standard input ends (0) or none can start (1)."""
    from distributed import Nanny

    try:
        check_reachable(invitation.scheduler)  # Dask would try for its whole timeout
    except OSError as error:
        print(
            f"runmem: node {node_name()} cannot reach the master at {invitation.scheduler}: {error}. Is a firewall "
            "between them? --master_address names another address or port.",
            file=sys.stderr,
        )
        return 1
    security = TlsSecurity(**invitation.security).dask() if invitation.security else None
    address = own_address(invitation.scheduler)
    remove_abandoned_scratch()
    with _scratch() as folder:
        nannies = [
            Nanny(
                invitation.scheduler,
                nthreads=1,
                name=f"{node_name()}-{os.getpid()}-{number}",  # after a lost connection the old ones are still known
                memory_limit=limit_bytes,
                local_directory=folder,
                host=address,
                security=security,
                silence_logs=_LOG_LEVEL,
                preload=["runmem.clusters.node_workers"],
                death_timeout=60,
                dashboard_address="127.0.0.1:0",  # Dask serves numbers there without a password
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
            gone = asyncio.ensure_future(_all_gone(nannies))
            stop = asyncio.ensure_future(_wait(ended))
            await asyncio.wait([stop, gone], return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await _end(nannies)
    return 1 if len(errors) == len(nannies) else 0


@contextmanager
def _scratch() -> Iterator[str]:
    folder = make_scratch()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _end(nannies: Sequence[Any]) -> None:
    """End workers that nobody wants any more; tasks that still run are not waited for."""
    logging.disable()  # of connections that close, and of workers that die
    for nanny in nannies:
        nanny.auto_restart = False
        if nanny.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)
    closed = asyncio.gather(*(nanny.close(timeout=2) for nanny in nannies), return_exceptions=True)
    with suppress(TimeoutError):
        await asyncio.wait_for(closed, _CLOSE_S)


async def _all_gone(nannies: Sequence[Any]) -> None:
    for nanny in nannies:
        await nanny.finished()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


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
    limit_bytes = invitation.worker_memory_bytes or worker_memory_bytes(limit.limit_bytes, workers)
    with dask.config.set(invitation.configuration):
        return await _serve(invitation, workers, limit_bytes, ended)


def main() -> int:
    """Start the workers that standard input asks for; return the exit code when they have ended."""
    ignore_sigterm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the master, which ends us
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
