"""One quantum as a task: what runs on a worker, and the task that a record names by label and data id."""

from __future__ import annotations

import functools
import logging
import os
import pickle
import signal
import sys
import threading
import time
import uuid
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from lsst.daf.butler.cli.cliLog import CliLog
from lsst.pipe.base._status import InvalidQuantumError
from lsst.pipe.base.quantum_reports import QuantumReport
from lsst.utils.threads import disable_implicit_threading

from runmem.errors import RunmemError
from runmem.graph.task import TaskFunction
from runmem.store.node_name import node_name

__all__ = [
    "QuantumKilledError",
    "QuantumNotRunError",
    "QuantumStoppedError",
    "QuantumTask",
    "QuantumTimeoutError",
    "run_quantum",
]

log = logging.getLogger(__name__)

_STOP = "stop"
_LOOK_S = 0.2


class QuantumKilledError(RunmemError):
    """The process that ran a quantum died; what it had written is not run over."""


class QuantumTimeoutError(QuantumKilledError):
    """The time of a quantum was up, and its process was ended."""


class QuantumStoppedError(QuantumKilledError):
    """A quantum that ran when another one failed and everything was to stop; its process was ended."""


class QuantumNotRunError(RunmemError):
    """A quantum that was not begun, because another one failed and everything was to stop."""


class QuantumTask(TaskFunction):
    """`run_quantum` for one quantum, which its record names by the label of the pipeline's task and the data id."""

    def __init__(self, label: str, module: str, data_id: str) -> None:
        super().__init__(run_quantum, {"returns": 1})
        self.name = label
        self.module = module
        self.file = getattr(sys.modules.get(module), "__file__", None) or ""
        self.data_id = data_id

    def __reduce__(self) -> tuple[Any, ...]:
        return QuantumTask, (self.name, self.module, self.data_id)


def run_quantum(
    executor: bytes,
    task_node: bytes,
    quantum: bytes,
    quantum_id: uuid.UUID,
    marks: str,
    stops: bool,
    timeout_s: float | None,
    log_state: list[Any],
    upstream: list[Any],
) -> QuantumReport | None:
    """Run a quantum in this process and return its report.

    Parameters
    ----------
    executor, task_node, quantum : bytes
        The pickled `lsst.pipe.base.quantum_graph_executor.QuantumExecutor`, `TaskNode` and `Quantum`.
    marks : str
        A folder that all workers see, in which quanta that began and ended leave a mark.
    stops : bool
        Whether no other quantum is to begin or go on once one has failed.
    timeout_s : float or None
        Seconds after which this process is killed if the quantum has not ended.
    log_state : list
        How LSST's logging was set up in the program.
    upstream : list
        Reports of the quanta that had to come first; only that they are there matters.

    Notes
    -----
    Dask runs a task again when its worker died, and when its result was on a worker that died. A quantum that had ended
    then gives its report; one that had begun is not run again, because part of its outputs may be in the Butler.
    """
    if log_state and not CliLog.configState:
        CliLog.replayConfigState(log_state)
    disable_implicit_threading()
    mark = _Mark(Path(marks), quantum_id, stops)
    done, earlier = mark.begin()
    if done:
        return earlier
    try:
        with _ended_early(mark, stops, timeout_s):
            report: QuantumReport | None = _executor(executor).execute(
                pickle.loads(task_node), pickle.loads(quantum), quantum_id=quantum_id
            )[1]
    except BaseException as error:
        mark.failed(isinstance(error, InvalidQuantumError))
        raise
    mark.end(report)
    return report


@functools.lru_cache(maxsize=1)
def _executor(data: bytes) -> Any:
    """Return the executor, kept for the next quantum of this process, as LSST keeps it without `multiprocessing`."""
    return pickle.loads(data)


def _ended_early(mark: _Mark, stops: bool, timeout_s: float | None) -> AbstractContextManager[Any]:
    """End this process, and say why, if what runs inside takes longer, or (`stops`) once another quantum has failed.

    Notes
    -----
    Limitation: code that keeps the interpreter's lock is ended when it gives it up.
    """
    stack = ExitStack()  # not a `contextmanager`, which sets attributes of what is raised inside
    if timeout_s is not None or stops:
        over = threading.Event()
        threading.Thread(target=_watch, args=(mark, stops, timeout_s, over), daemon=True).start()
        stack.callback(over.set)
    return stack


def _watch(mark: _Mark, stops: bool, timeout_s: float | None, over: threading.Event) -> None:
    """Kill this process when there is a reason; nothing in the quantum can be asked to stop."""
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    while not over.wait(min(_LOOK_S if stops else threading.TIMEOUT_MAX, max(0.0, deadline - time.monotonic()))):
        if timeout_s is not None and time.monotonic() >= deadline:
            mark.time_is_up(timeout_s)
        elif stops and mark.is_to_stop():
            mark.gives_up()
        else:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


class _Mark:
    """What is known of earlier attempts at a quantum. Where the folder cannot be reached, nothing is."""

    def __init__(self, folder: Path, quantum_id: uuid.UUID, stops: bool) -> None:
        self._stops = stops
        self._stopped = folder / f"{quantum_id}.stopped"
        self._late = folder / f"{quantum_id}.late"
        self._begun = folder / f"{quantum_id}.begun"
        self._ended = folder / f"{quantum_id}.ended"
        self._stop = folder / _STOP

    def begin(self) -> tuple[bool, QuantumReport | None]:
        """Return whether the quantum has ended before, and its report; else note that it begins."""
        try:
            if self._ended.exists():
                content = pickle.loads(self._ended.read_bytes())
                return True, content
            if self._stopped.exists():
                raise QuantumStoppedError(f"it was ended, because another quantum failed ({self._begun.read_text()})")
            if self._stop.exists():
                raise QuantumNotRunError("another quantum failed, and nothing more was to begin")
            with self._begun.open("x") as file:
                file.write(f"node {node_name()}, process {os.getpid()}")
        except FileExistsError:
            if self._stops:
                self._write(self._stop, b"")
            if self._late.exists():
                raise QuantumTimeoutError(
                    f"{self._late.read_text()}; it was killed ({self._begun.read_text()})"
                ) from None
            raise QuantumKilledError(
                f"the process that ran this quantum died ({self._begun.read_text()}); it is not run again, because "
                "part of its outputs may have been written. Its record tells the last memory reading and the cause."
            ) from None
        except OSError as error:
            log.warning("quanta whose worker dies will be run again: %s", error)
        return False, None

    def end(self, report: QuantumReport | None) -> None:
        """Keep the report: the result may be lost with the worker."""
        self._write(self._ended, pickle.dumps(report))

    def time_is_up(self, timeout_s: float) -> None:
        """Note why the process is about to be killed."""
        self._write(self._late, f"the time of this quantum, {timeout_s:g} s, was up".encode())

    def is_to_stop(self) -> bool:
        """Tell whether another quantum has failed, and everything is to stop."""
        return self._stop.exists()

    def gives_up(self) -> None:
        """Note that the process is about to be killed because another quantum failed."""
        self._write(self._stopped, b"")

    def failed(self, is_invalid: bool) -> None:
        """Take the mark back, for the exception is told by itself; let nothing else begin if that is wanted."""
        if self._stops or is_invalid:
            self._write(self._stop, b"")
        try:
            self._begun.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: %s", self._begun, error)

    def _write(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            log.warning("%s: %s", path, error)
