"""A process forked from the program, that is to targets what a worker is: it runs one after the other."""

from __future__ import annotations

import fcntl
import gc
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runmem.clusters.spawning import pass_for_embedded_worker
from runmem.execution.worker_run import RunOnWorkers, WorkerRun, worker_runs
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.profile_report import set_report_sink
from runmem.store.node_name import node_name
from runmem.task_runner.fork_server import Children, Outcome, ServerSetup, call_runner, die_with_parent, set_logging
from runmem.task_runner.isolation import Ended, copier, run_limited
from runmem.task_runner.mailbox import Sender
from runmem.task_runner.target_records import Slots, ToldLog, packed_end, packed_loss
from runmem.task_runner.target_task import TargetTask

__all__ = ["HELD_BACK", "NUMBER", "ForkedProcess", "Work"]

NUMBER = struct.Struct("=I")  # of a target, as it waits in a pipe
HELD_BACK = {signal.SIGINT, signal.SIGTERM}  # while a process is forked


class Work(NamedTuple):
    """What is to be done.

    Attributes
    ----------
    task : TargetTask
        The task that the records name.
    setup : bytes
        Pickle of a `ServerSetup`.
    targets : sequence of (data id, target)
        As `targets` packs them. The record of the first is number 1.
    isolate : bool
    limit_s, deadline_s : float or None
        See `run_target`.
    """

    task: TargetTask
    setup: bytes
    targets: Sequence[tuple[str, bytes]]
    isolate: bool
    limit_s: float | None
    deadline_s: float | None


class ForkedProcess:
    """One of them, after the fork.

    Parameters
    ----------
    number : int
        Which of them.
    work : Work
    run : RunOnWorkers
    limit_bytes : int or None
        Memory that it may use.
    numbers : int
        Descriptor of the pipe in which the numbers of the targets wait.
    slots : Slots
    sender : Sender
        For what the program is told; see `unpacked`.
    lock : Path
        To be kept locked.
    """

    def __init__(
        self, number: int, work: Work, run: RunOnWorkers, limit_bytes: int | None, numbers: int, slots: Slots,
        sender: Sender, lock: Path,
    ) -> None:  # fmt: skip
        self._number = number
        self._work = work
        self._run = run
        self._limit_bytes = limit_bytes
        self._numbers = numbers
        self._slots = slots
        self._sender = sender
        self._lock = lock

    def live(self, parent: int) -> None:
        """Run targets until there are no more, or the program (`parent`) wants no more or is gone; never returns."""
        code = 1
        try:
            self._settle_in(parent)
            with open(self._lock, "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._serve()
            self._sender.close()  # what the kernel needs to end this process is not waited for
            code = 0
        except (EOFError, ConnectionError):
            pass  # the program has given it up, or is gone
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def _settle_in(self, parent: int) -> None:
        """Become what a worker is: one that leaves interrupts to the program, and ends with it."""
        with suppress(OSError):
            os.setpgid(0, 0)  # what a target starts ends with it; and an interrupt from a terminal goes to the program
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, lambda *_: None)  # not ignored: what a target starts would ignore it too
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        if not self._work.isolate:
            pass_for_embedded_worker()
            die_with_parent()()
            if os.getppid() != parent:
                os._exit(1)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        gc.freeze()

    def _serve(self) -> None:
        """Run targets until there are no more."""
        log = ToldLog(self._slots, self._number)
        run = self._join_run(log)
        run_one, end = self._runner()
        while data := os.read(self._numbers, NUMBER.size):
            (index,) = NUMBER.unpack(data)
            self._slots.begin(self._number, index + 1, None if run is None else run.now())
            ended = self._run_target(run, index, run_one)
            self._sender.send(packed_end(index, ended, log.measured))
            self._slots.end(self._number)
        end()
        if run is not None:
            run.bundle_ended()
            run.close()

    def _join_run(self, log: ToldLog) -> WorkerRun | None:
        """Join the run. A process that cannot measure runs targets all the same."""

        def tell(message: dict[str, Any]) -> None:
            if "lost" in message:
                self._sender.send(packed_loss(message["place"], message["lost"]))

        try:
            run = WorkerRun(self._run, self._limit_bytes, tell, samples=False, log=log)
        except Exception as error:
            place = f"process {os.getpid()} on node {node_name()}"
            tell({"place": place, "lost": f"the memory of its targets was not measured: {error}"})
            return None
        worker_runs[self._run.run_id] = run
        set_report_sink(run.report)
        return run

    def _runner(self) -> tuple[Callable[[bytes, float | None], Outcome], Callable[[], None]]:
        """Return what runs a target, and what ends that."""
        correct_lsst_timer()
        setup: ServerSetup = pickle.loads(self._work.setup)
        set_logging(setup.log_levels)
        runner = setup.load_runner()
        if not self._work.isolate:
            make_runner = copier(runner)
            return (lambda target, _: call_runner(make_runner(), pickle.loads(target))), lambda: None
        children = Children(self._sender.line, runner)

        def run_one(target: bytes, timeout_s: float | None) -> Outcome:
            try:
                return children.run(target, timeout_s)
            except EOFError:  # the program is gone or wants no more: its record says so, not this process
                os._exit(1)

        return run_one, children.end

    def _run_target(
        self, run: WorkerRun | None, index: int, run_one: Callable[[bytes, float | None], Outcome]
    ) -> Ended:
        _, target = self._work.targets[index]

        def body() -> Ended:
            return run_limited(run_one, self._work.limit_s, self._work.deadline_s, target)

        if run is None or not run.measures:
            return body()
        run.began(index + 1)
        # The next one begins where this one ends. The program, which writes the records, knows the data ids.
        ended: Ended = run.measured(index + 1, self._work.task, False, body)
        return ended
