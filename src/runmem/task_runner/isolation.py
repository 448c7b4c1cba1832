"""Targets on a worker: each in a fresh process, or in the worker itself."""

from __future__ import annotations

import atexit
import copy
import functools
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from runmem.errors import RunmemError
from runmem.store.node_name import node_name
from runmem.task_runner.fork_server import Outcome, ServerSetup, call_runner
from runmem.task_runner.implicit_threading import disableImplicitThreading
from runmem.worker.call_recorder import worker_runs
from runmem.worker.record_fields import set_record_fields

__all__ = [
    "GIVEN_UP", "Ended", "abandon_targets", "copier", "ended_as", "prepare", "run_limited", "run_target",
    "stop_targets",
]  # fmt: skip

GIVEN_UP = "the program has given up its targets"
_TURN_S = 0.02
_COPIES_BYTES = 1 << 15
_START_SERVER = "import sys; from runmem.task_runner.fork_server import main; main(int(sys.argv[1]))"


class Ended(NamedTuple):
    """What the program is told of a target; see `Outcome`."""

    node: str
    pid: int
    value: bytes | None
    raised: Any
    failures: list[tuple[str, str]]
    killed: str | None
    timed_out: bool


def prepare(setup: bytes, isolate: bool) -> None:
    """Do what is done once in a worker, before its first target; what fails here fails again, and is told, there."""
    with suppress(Exception):
        if isolate:
            server = _take(setup)
            with _lock:
                _idle.append(server)
        else:
            _runner(setup)


@functools.lru_cache(maxsize=1)
def _runner(setup: bytes) -> Callable[[], Any]:
    """Return what makes runners, one for each target."""
    disableImplicitThreading()
    given: ServerSetup = pickle.loads(setup)
    runner = given.load_runner()
    disableImplicitThreading()  # also of what was loaded meanwhile
    return copier(runner)


def run_target(setup: bytes, isolate: bool, limit_s: float | None, deadline_s: float | None, target: bytes) -> Ended:
    """Run one target and set the fields of its record.

    Parameters
    ----------
    setup : bytes
        Pickle of a `ServerSetup`.
    limit_s, deadline_s : float or None
        Seconds that it may take, and the end of the whole run (seconds since the epoch). Without isolation a target
        that has begun is not ended.
    """
    if setup in _stopped:
        return ended_as(Outcome(0, killed=GIVEN_UP))
    if isolate:
        return run_limited(functools.partial(_run_isolated, setup), limit_s, deadline_s, target)
    return run_limited(
        lambda target, _: call_runner(_runner(setup)(), pickle.loads(target)), limit_s, deadline_s, target
    )


def copier(runner: Any) -> Callable[[], Any]:
    """Return what makes copies of a runner, so that no target sees what an earlier one has changed."""
    try:
        packed = pickle.dumps(runner, pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)
    except Exception:  # it travelled by value, as what the program itself defines does
        return functools.partial(copy.deepcopy, runner)
    return _copies(packed).__next__


def _copies(packed: bytes) -> Iterator[Any]:
    """Yield what was pickled, again and again: several at a time, as the second is many times as quick as the first."""
    at_once = max(1, _COPIES_BYTES // len(packed))
    while True:
        yield from [pickle.loads(packed) for _ in range(at_once)]


def run_limited(
    run: Callable[[bytes, float | None], Outcome], limit_s: float | None, deadline_s: float | None, target: bytes
) -> Ended:
    """Run one target by `run`, which takes it and the seconds that it may take, and set the fields of its record."""
    if deadline_s is not None:
        left_s = deadline_s - time.time()
        if left_s <= 0:
            return ended_as(Outcome(0, killed="the time of the run was up before it began", timed_out=True))
        limit_s = left_s if limit_s is None else min(limit_s, left_s)
    return ended_as(run(target, limit_s))


def ended_as(outcome: Outcome) -> Ended:
    """Set the fields of the record of a target; return what the program is told of it."""
    if outcome.fields or outcome.killed or outcome.raised is not None or outcome.failures:
        _describe(outcome)
    return Ended(
        _node(), outcome.pid, outcome.value, outcome.raised, outcome.failures, outcome.killed, outcome.timed_out
    )


_node = functools.cache(node_name)  # that of a process does not change


def _describe(outcome: Outcome) -> None:
    """Set the fields of the record that are not what was measured."""
    fields: dict[str, Any] = dict(outcome.fields)
    if outcome.pid not in (0, os.getpid()):
        fields["target_pid"] = outcome.pid
    if outcome.killed:
        fields["status"] = "killed"
        fields["reason"] = outcome.killed
    elif outcome.raised is not None or outcome.failures:
        fields["status"] = "failed"
        text = outcome.raised.text if outcome.raised is not None else outcome.failures[0][1]
        fields["exception"] = text.partition(":")[0]
    if any(run.measures for run in worker_runs.values()):
        set_record_fields(**fields)


# --- servers of this worker -------------------------------------------------------------------------------------------


class _Server:
    """A process of `fork_server`, started and connected."""

    def __init__(self, setup: bytes) -> None:
        from multiprocessing.connection import Connection

        self.setup = setup
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START_SERVER, str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))
        try:
            self._connection.send_bytes(_with_own_paths(setup))
            problem = self._connection.recv_bytes()
        except (EOFError, OSError):
            self.close()
            raise RunmemError(
                f"the process that starts targets ended with exit code {self._process.returncode} before the first of "
                f"them, on node {node_name()}: its standard error says why."
            ) from None
        if problem:
            self.close()
            raise RunmemError(
                f"the task cannot be loaded on node {node_name()}: {pickle.loads(problem)}. Its modules must be "
                "importable there."
            )

    def is_running(self) -> bool:
        """Tell whether it can be given a target: it ends by itself when it was not used for a while."""
        return self._process.poll() is None and not self._connection.poll()

    def run(self, target: bytes, timeout_s: float | None) -> Outcome:
        """Run one target. Raises EOFError or OSError if the server itself dies."""
        self._connection.send_bytes(pickle.dumps((target, timeout_s), pickle.HIGHEST_PROTOCOL))
        outcome: Outcome = pickle.loads(self._connection.recv_bytes())
        return outcome

    def stop(self) -> None:
        """Let it end, and the target that it runs, while another thread waits for that target."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and the target that it runs."""
        self._connection.close()
        self._socket.close()
        self._process.wait()


_idle: list[_Server] = []
_busy: list[_Server] = []
_stopped: set[bytes] = set()
_lock = threading.Lock()


def _take(setup: bytes) -> _Server:
    """Return an idle server of this runner, or a new one; end those of other runners."""
    with _lock:
        mine = [server for server in _idle if server.setup == setup]
        others = [server for server in _idle if server.setup != setup]
        found = mine.pop() if mine else None
        _idle[:] = mine
    for server in others:
        server.close()
    if found is not None and found.is_running():
        return found
    if found is not None:
        found.close()
    return _Server(setup)


def stop_targets(setup: bytes) -> None:
    """End the isolated targets of this runner that run in this worker, and begin none any more."""
    with _lock:
        _stopped.add(setup)
        running = [server for server in _busy if server.setup == setup]
    for server in running:
        server.stop()


def abandon_targets(setup: bytes) -> None:
    """Begin no more targets in this worker, which is about to be killed, and kill what those without isolation start.

    Its end alone would leave the processes that they have started.
    """
    _stopped.add(setup)
    _kill_children()
    threading.Thread(target=_kill_children_from_now_on, daemon=True).start()


def _kill_children_from_now_on() -> None:
    while True:
        time.sleep(_TURN_S)
        _kill_children()


def _kill_children() -> None:
    import psutil  # here: the processes of the local pool, which do not need it, begin sooner

    session = os.getsid(0)
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:  # not the sampler, which ends with the run
                process.kill()


def _with_own_paths(setup: bytes) -> bytes:
    """Return the setup with the folders that this worker imports from besides."""
    given: ServerSetup = pickle.loads(setup)
    more = [path for path in sys.path if path not in given.import_paths]
    return pickle.dumps(given._replace(import_paths=[*given.import_paths, *more]))


def _run_isolated(setup: bytes, target: bytes, timeout_s: float | None) -> Outcome:
    server = _take(setup)
    try:
        with _lock:
            _busy.append(server)
        outcome = server.run(target, timeout_s)
    except (EOFError, OSError):
        server.close()
        return Outcome(0, killed=GIVEN_UP if setup in _stopped else "the process that starts targets died")
    except BaseException:
        server.close()
        raise
    finally:
        with _lock:
            _busy.remove(server)
    with _lock:
        _idle.append(server)
    return outcome


def _close_all() -> None:
    with _lock:
        servers, _idle[:] = list(_idle), []
    for server in servers:
        with suppress(OSError):
            server.close()


atexit.register(_close_all)
