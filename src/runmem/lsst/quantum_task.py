"""One quantum as a task, which a record names by the label of the pipeline's task and the data id.

LSST's packages are imported where quanta run: the worker that only has a process started for each needs none of them.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import uuid
from typing import TYPE_CHECKING, Any

from runmem.graph.isolation import Isolation
from runmem.graph.task import TaskFunction

if TYPE_CHECKING:
    from lsst.pipe.base.quantum_reports import QuantumReport

__all__ = ["QuantumTask", "run_quantum"]

_IMPORTED_FIRST = ("lsst.pipe.base.single_quantum_executor", "lsst.daf.butler.cli.cliLog", "lsst.utils.threads")


class QuantumTask(TaskFunction):
    """`run_quantum` for one quantum, in a process of its own.

    It begins once only: what it had written when its process died may be in the Butler.
    """

    def __init__(self, label: str, module: str, file: str, data_id: str, limit_s: float | None) -> None:
        super().__init__(run_quantum, {"returns": 1})
        self.name, self.module, self.file, self.data_id = label, module, file, data_id
        self.isolation = Isolation(fresh_process=True, limit_s=limit_s or 0.0, attempts=1)

    @classmethod
    def of_node(cls, label: str, node: Any, data_id: str, limit_s: float | None) -> QuantumTask:
        """Return the task for a quantum of a node of the pipeline."""
        module = node.task_class.__module__
        return cls(label, module, getattr(sys.modules.get(module), "__file__", None) or "", data_id, limit_s)

    def __reduce__(self) -> tuple[object, ...]:
        return QuantumTask, (self.name, self.module, self.file, self.data_id, self.isolation.limit_s)

    def prepare(self) -> None:
        """Import LSST's packages and the module of the pipeline's task."""
        for module in (*_IMPORTED_FIRST, self.module):
            importlib.import_module(module)


def run_quantum(
    executor: bytes,
    task_node: bytes,
    quantum: bytes,
    quantum_id: uuid.UUID,
    log_state: list[object],
    upstream: list[object],
) -> QuantumReport | None:
    """Run a quantum in this process and return its report.

    Parameters
    ----------
    executor, task_node, quantum : bytes
        The pickled `lsst.pipe.base.quantum_graph_executor.QuantumExecutor`, `TaskNode` and `Quantum`.
    log_state : list
        How LSST's logging was set up in the program.
    upstream : list
        Reports of the quanta that had to come first; only that they are there matters.
    """
    from lsst.daf.butler.cli.cliLog import CliLog
    from lsst.utils.threads import disable_implicit_threading

    if log_state and not CliLog.configState:
        CliLog.replayConfigState(log_state)
    disable_implicit_threading()
    report: QuantumReport | None = pickle.loads(executor).execute(
        pickle.loads(task_node), pickle.loads(quantum), quantum_id=quantum_id
    )[1]
    return report
