"""Runs a QuantumGraph of LSST's on the cluster, a task for each quantum, instead of with `multiprocessing`."""

from __future__ import annotations

import logging
import pickle
import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import networkx
from lsst.daf.butler.cli.cliLog import CliLog
from lsst.pipe.base._status import InvalidQuantumError
from lsst.pipe.base.mp_graph_executor import MPGraphExecutorError, MPTimeoutError
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.pipe.base.quantum_graph_executor import QuantumExecutor
from lsst.pipe.base.quantum_graph_executor import QuantumGraphExecutor as LsstQuantumGraphExecutor
from lsst.pipe.base.quantum_reports import ExecutionStatus, QuantumReport, Report

from runmem.errors import RunmemError, SettingError, TaskCancelledError, TaskKilledError, TaskTimeoutError
from runmem.execution.session import session
from runmem.graph.current import current_program
from runmem.graph.synchronise import wait_on
from runmem.lsst.quantum_task import QuantumTask

if TYPE_CHECKING:
    from runmem.graph.future import Future
    from runmem.graph.program import Program

__all__ = ["QuantumGraphExecutor", "QuantumGraphExecutorError", "QuantumGraphTimeoutError"]

log = logging.getLogger(__name__)

_ENDED_POLL_S = 0.02


class QuantumGraphExecutorError(RunmemError, MPGraphExecutorError):  # type: ignore[misc]
    """Some quanta failed, or the graph cannot be run; also an error of LSST's own executor."""


class QuantumGraphTimeoutError(QuantumGraphExecutorError, MPTimeoutError):  # type: ignore[misc]
    """The time of some quanta was up, and no other one failed."""


class QuantumGraphExecutor(LsstQuantumGraphExecutor):  # type: ignore[misc]
    """Execute quanta as tasks of runmem: in the run that is under way, else in one of its own.

    Give it to ``SeparablePipelineExecutor.run_pipeline(graph, graph_executor=...)``. Each quantum has a record with the
    label of its task and its data id, and the peaks in its metadata are its own.

    Parameters
    ----------
    quantum_executor : lsst.pipe.base.quantum_graph_executor.QuantumExecutor
        What executes one quantum, such as a ``SingleQuantumExecutor``; it is pickled to the workers, as for LSST's
        ``MPGraphExecutor``, so that each process has a connection of its own to the registry.
    fail_fast : bool
        Whether no quantum begins any more once one has failed, and those that run are ended with their processes.
    timeout : float, optional
        Seconds after which a quantum's process is killed, and the quantum has failed; default: no limit. Begins anew
        with each quantum.
    execution_graph_fixup : lsst.pipe.base.execution_graph_fixup.ExecutionGraphFixup, optional
        Adds dependencies to the graph.
    **settings
        Of `runmem.session`, for a run of its own, such as ``workers=4``; memory is measured unless
        ``python_memory_profile=False``.

    Notes
    -----
    Assumptions: the classes of the pipeline's tasks can be imported on the workers, and these run one task at a time (a
    Butler serves one thread). A quantum whose process dies is not run again. Limitation: there is no provenance graph,
    as in LSST's own executor with several processes.
    """

    def __init__(
        self,
        quantum_executor: QuantumExecutor,
        *,
        fail_fast: bool = False,
        timeout: float | None = None,
        execution_graph_fixup: Any = None,
        **settings: Any,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise SettingError(f"timeout={timeout!r}: give the seconds that a quantum may take, or None for no limit")
        self._quantum_executor = quantum_executor
        self._timeout_s = timeout
        self._fail_fast = fail_fast
        self._fixup = execution_graph_fixup
        self._settings = {"python_memory_profile": True, **settings}
        self._report: Report | None = None

    def execute(self, graph: Any, *, provenance_graph_file: str | None = None) -> None:
        """Execute all quanta; return when the last has ended.

        Raises
        ------
        QuantumGraphTimeoutError
            If quanta failed because their time was up, and for no other reason.
        QuantumGraphExecutorError
            If quanta failed; those that do not depend on them have run, unless `fail_fast`. Also for a graph with a
            circle, a task that may not run beside others, or an executor that cannot be pickled, before any quantum.
        NotImplementedError
            If a provenance graph is asked for.
        """
        if provenance_graph_file is not None:
            raise NotImplementedError("a provenance graph can only be written by LSST's executor with one process")
        predicted = (
            graph if isinstance(graph, PredictedQuantumGraph) else PredictedQuantumGraph.from_old_quantum_graph(graph)
        )
        self._report = Report(qgraphSummary=predicted._make_summary())
        try:
            self._run(self._quanta(predicted, graph), self._report)
        except Exception as error:
            self._report.set_exception(error)
            if self._report.status is ExecutionStatus.SUCCESS:
                self._report.status = ExecutionStatus.FAILURE
            raise

    def getReport(self) -> Report:
        """Return the report of the last `execute`. Raises `RuntimeError` before that."""
        if self._report is None:
            raise RuntimeError("getReport() was called before execute()")
        return self._report

    def _quanta(self, graph: PredictedQuantumGraph, given: Any) -> networkx.DiGraph:
        """Return the graph of quanta, checked."""
        graph.build_execution_quanta()
        quanta = graph.quantum_only_xgraph.copy()
        if self._fixup is not None:
            try:
                self._fixup.fixup_graph(quanta, graph.quanta_by_task)
            except NotImplementedError:  # one of the older form
                old = graph.to_old_quantum_graph() if given is graph else given
                fixed = self._fixup.fixupQuanta(old)
                quanta.update([(before.nodeId, after.nodeId) for before, after in fixed.graph.edges])
            if not networkx.is_directed_acyclic_graph(quanta):
                raise QuantumGraphExecutorError(f"{self._fixup!r} made a circle of dependencies among the quanta")
        for _, node in quanta.nodes(data=True):
            if not node["pipeline_node"].task_class.canMultiprocess:
                raise QuantumGraphExecutorError(
                    f"task {node['task_label']} declares canMultiprocess = False: run it with LSST's executor"
                )
        return quanta

    def _run(self, quanta: networkx.DiGraph, report: Report) -> None:
        try:
            executor = pickle.dumps(self._quantum_executor)
        except Exception as error:
            raise QuantumGraphExecutorError(
                f"{self._quantum_executor!r} cannot be sent to a worker: {error}"
            ) from error
        with session("quanta", **self._settings) if current_program() is None else nullcontext():
            futures = self._submit(quanta, executor)
            outcomes = _Outcomes(quanta, report)
            if failed := outcomes.gather(futures, self._fail_fast):
                kind = QuantumGraphTimeoutError if outcomes.only_timeouts else QuantumGraphExecutorError
                raise kind(
                    f"{failed} of {len(quanta)} quanta failed, or were skipped because they depend on one that did"
                )

    def _submit(self, quanta: networkx.DiGraph, executor: bytes) -> dict[uuid.UUID, Future]:
        """Call a task for each quantum, in an order that the dependencies allow."""
        task_nodes: dict[str, bytes] = {}
        futures: dict[uuid.UUID, Future] = {}
        for quantum_id in networkx.lexicographical_topological_sort(quanta, key=lambda i: _order(quanta.nodes[i])):
            node = quanta.nodes[quantum_id]
            label = node["task_label"]
            if label not in task_nodes:
                task_nodes[label] = pickle.dumps(node["pipeline_node"])
            task = QuantumTask.of_node(label, node["pipeline_node"], _named(node["data_id"]), self._timeout_s)
            upstream = [futures[earlier] for earlier in quanta.predecessors(quantum_id)]
            futures[quantum_id] = task(
                executor, task_nodes[label], pickle.dumps(node["quantum"]), quantum_id, list(CliLog.configState),
                upstream,
            )  # fmt: skip
        return futures


def _order(node: Any) -> str:
    """Return the sort key of quanta that do not depend on each other: label and data id, as in LSST's executor."""
    return f"{node['task_label']} {[str(value).zfill(20) for value in node['data_id'].required_values]}"


def _named(data_id: Any) -> str:
    return "{" + ", ".join(f"{key}: {value!r}" for key, value in dict(data_id.required).items()) + "}"


class _Outcomes:
    """Waits for the quanta and writes the report."""

    def __init__(self, quanta: networkx.DiGraph, report: Report) -> None:
        self.only_timeouts = True
        self._quanta = quanta
        self._report = report
        self._failed: set[uuid.UUID] = set()
        self._is_stopped = False  # because one has failed

    def gather(self, futures: dict[uuid.UUID, Future], fail_fast: bool) -> int:
        """Wait for every quantum; return how many failed or were skipped.

        With `fail_fast` the others are ended once one has failed; also once one is found to be invalid.
        """
        program = current_program()
        assert program is not None
        for done, quantum_id in enumerate(self._as_they_end(program, futures), 1):
            try:
                self._finished(wait_on(futures[quantum_id]))
            except Exception as error:
                if self._is_stopped and isinstance(error, TaskKilledError):
                    error.args = (f"{error}: it was ended, because another quantum failed",)
                elif (fail_fast or isinstance(error, InvalidQuantumError)) and not self._is_stopped:
                    self._is_stopped = True
                    program.cancel([future for future in futures.values() if not program.has_ended(future)])
                self._not_finished(quantum_id, error)
            succeeded, total = done - len(self._failed), len(futures)
            log.info(
                "%d quanta succeeded, %d failed, %d remain of %d", succeeded, len(self._failed), total - done, total
            )
        return len(self._failed)

    def _as_they_end(self, program: Program, futures: dict[uuid.UUID, Future]) -> Iterator[uuid.UUID]:
        """Yield each quantum as soon as its task has ended, after those that it depends on."""
        waiting = dict(futures)
        while waiting:
            ended = [quantum_id for quantum_id, future in waiting.items() if program.has_ended(future)]
            for quantum_id in ended:
                if not any(earlier in waiting for earlier in self._quanta.predecessors(quantum_id)):
                    del waiting[quantum_id]
                    yield quantum_id
            if not ended:
                time.sleep(_ENDED_POLL_S)

    def _finished(self, report: QuantumReport | None) -> None:
        if report is not None:
            self._report.quantaReports.append(report)

    def _not_finished(self, quantum_id: uuid.UUID, error: Exception) -> None:
        node = self._quanta.nodes[quantum_id]
        label, data_id = node["task_label"], node["data_id"]
        upstream_failed = any(earlier in self._failed for earlier in self._quanta.predecessors(quantum_id))
        self._failed.add(quantum_id)
        if upstream_failed or isinstance(error, TaskCancelledError):
            why = "a quantum that it depends on failed" if upstream_failed else "another quantum failed"
            log.error("%s %s is skipped: %s", label, data_id, why)
            report = QuantumReport(
                quantumId=quantum_id, status=ExecutionStatus.SKIPPED, dataId=data_id, taskLabel=label
            )
        elif isinstance(error, TaskTimeoutError):
            log.error("%s %s failed: %s", label, data_id, error)
            report = QuantumReport(
                quantumId=quantum_id, status=ExecutionStatus.TIMEOUT, dataId=data_id, taskLabel=label
            )
            if self._report.status is ExecutionStatus.SUCCESS:
                self._report.status = ExecutionStatus.TIMEOUT
        else:
            self.only_timeouts = False
            self._report.status = ExecutionStatus.FAILURE
            log.error("%s %s failed", label, data_id, exc_info=error)
            exit_code = getattr(error, "EXIT_CODE", None)
            report = QuantumReport.from_exception(
                quantumId=quantum_id, exception=error, dataId=data_id, taskLabel=label, exitCode=exit_code
            )
        self._report.quantaReports.append(report)
