"""Real quantum graphs on the cluster: outputs as those of LSST's own executor, and what fails fails alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
sys.path.insert(0, str(Path(__file__).parent))

import repository  # noqa: E402
from lsst.pipe.base.execution_graph_fixup import ExecutionGraphFixup  # noqa: E402
from lsst.pipe.base.mp_graph_executor import MPGraphExecutor, MPGraphExecutorError  # noqa: E402
from lsst.pipe.base.quantum_reports import ExecutionStatus  # noqa: E402
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor  # noqa: E402

from runmem.lsst import QuantumGraphExecutor, QuantumGraphExecutorError  # noqa: E402
from runmem.store.run import read_run  # noqa: E402
from runmem.units import MIB  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return repository.make_repository(str(tmp_path / "repo"))


def run_ours(root, run, workers=2, old=False, options=None, **config):
    executor, graph = repository.executor_and_graph(root, run, old, **config)
    single = SingleQuantumExecutor(butler=executor._butler)
    ours = QuantumGraphExecutor(single, workers=workers, **(options or {}))
    error = None
    try:
        executor.run_pipeline(graph, graph_executor=ours)
    except MPGraphExecutorError as raised:
        error = raised
    return ours.getReport(), error


def run_original(root, run, **config):
    executor, graph = repository.executor_and_graph(root, run, **config)
    single = SingleQuantumExecutor(butler=executor._butler)
    original = MPGraphExecutor(num_proc=2, timeout=600, quantum_executor=single)
    error = None
    try:
        executor.run_pipeline(graph, graph_executor=original)
    except MPGraphExecutorError as raised:
        error = raised
    return original.getReport(), error


def outcomes(report):
    return sorted(
        (quantum.taskLabel, quantum.dataId["visit"], quantum.dataId.get("detector", -1), quantum.status.value)
        for quantum in report.quantaReports
    )


def comparable(root, run):
    """Return what a run holds; of metadata the names (values are times and sizes), of logs that they are."""
    found = {}
    for key, content in repository.datasets(root, run).items():
        if key[0].endswith("_metadata"):
            content = sorted(content.names()), content["quantum.caveats"], len(content.getArray("quantum.outputs"))
        found[key] = None if key[0].endswith("_log") else content
    return found


def records(tmp_path):
    return [record for folder in sorted(tmp_path.glob("runmem_runs/quanta_*")) for record in read_run(folder).records]


@pytest.mark.parametrize("old", [False, True], ids=["predicted graph", "old graph"])
def test_outputs_are_those_of_the_original_executor(root, tmp_path, old):
    theirs, error = run_original(root, "theirs")
    assert error is None
    ours, error = run_ours(root, "ours", old=old)
    assert error is None
    assert outcomes(ours) == outcomes(theirs)
    assert ours.status is ExecutionStatus.SUCCESS
    expected, found = comparable(root, "theirs"), comparable(root, "ours")
    assert len([key for key in expected if key[0] == "total"]) == 2
    assert found.pop(("scale_config",)).compare(expected.pop(("scale_config",)))
    assert found.pop(("add_config",)).compare(expected.pop(("add_config",)))
    assert found == expected
    assert not list(tmp_path.glob(".runmem-quanta-*"))


def test_each_quantum_has_a_record_with_label_data_id_and_its_own_peak(root, tmp_path):
    _, error = run_ours(root, "ours", workers=1)
    assert error is None
    by_name = {(record.name, record.data_id): record for record in records(tmp_path)}
    assert len(by_name) == 10
    for visit in repository.VISITS:
        assert by_name["add", f"{{instrument: 'Cam', visit: {visit}}}"].target == "pipeline_tasks.add"
    datasets = repository.datasets(root, "ours")
    for visit in repository.VISITS:
        for detector, mebibytes in repository.SIZES.items():
            data_id = ("instrument", "Cam"), ("visit", visit)
            metadata = datasets["scale_metadata", ("detector", detector), *data_id]
            peak = metadata["scale.runEndMaxResidentSetSize"] - metadata["scale.runStartMaxResidentSetSize"]
            assert peak / MIB == pytest.approx(mebibytes, abs=0.5)
            record = by_name["scale", f"{{instrument: 'Cam', detector: {detector}, visit: {visit}}}"]
            assert record.status == "finished"
            assert metadata["scale.runEndMaxResidentSetSize"] <= metadata["quantum.endMaxResidentSetSize"]
            assert metadata["quantum.endMaxResidentSetSize"] <= record.peak_bytes


def test_a_failing_quantum_fails_what_depends_on_it_and_nothing_else(root, tmp_path):
    theirs, their_error = run_original(root, "theirs", failing=[1])
    ours, error = run_ours(root, "ours", failing=[1])
    assert isinstance(error, QuantumGraphExecutorError)
    assert isinstance(their_error, MPGraphExecutorError)
    assert outcomes(ours) == outcomes(theirs)
    assert comparable(root, "ours").keys() == comparable(root, "theirs").keys()
    failed = [quantum for quantum in ours.quantaReports if quantum.status is ExecutionStatus.FAILURE]
    assert {quantum.exceptionInfo.message for quantum in failed} == {"detector 1 is broken"}
    assert {quantum.exceptionInfo.className for quantum in failed} == {"ValueError"}
    assert ours.status is theirs.status is ExecutionStatus.FAILURE
    assert {record.exception for record in records(tmp_path) if record.status == "failed"} == {"ValueError"}


def test_a_killed_quantum_is_tried_once_and_reported(root, tmp_path):
    ours, error = run_ours(root, "ours", killed=[2])
    assert isinstance(error, QuantumGraphExecutorError)
    statuses = {key[:3]: status for *key, status in outcomes(ours) for key in [tuple(key)]}
    for visit in repository.VISITS:
        assert statuses["scale", visit, 2] == ExecutionStatus.FAILURE.value
        assert statuses["add", visit, -1] == ExecutionStatus.SKIPPED.value
        assert [statuses["scale", visit, other] for other in (0, 1, 3)] == [ExecutionStatus.SUCCESS.value] * 3
    killed = [record for record in records(tmp_path) if record.status == "killed"]
    assert sorted(record.data_id for record in killed) == [
        f"{{instrument: 'Cam', detector: 2, visit: {visit}}}" for visit in repository.VISITS
    ]
    assert "QuantumKilledError" in {q.exceptionInfo.className.rpartition(".")[2] for q in ours.quantaReports
                                    if q.status is ExecutionStatus.FAILURE}  # fmt: skip


def test_an_exit_in_a_task_fails_that_quantum(root):
    ours, error = run_ours(root, "ours", exiting=[0])
    assert isinstance(error, QuantumGraphExecutorError)
    assert sum(quantum.status is ExecutionStatus.SUCCESS for quantum in ours.quantaReports) == 6


def test_with_fail_fast_nothing_begins_after_the_first_failure(root, tmp_path):
    ours, error = run_ours(root, "ours", workers=1, options={"fail_fast": True}, failing=[0])
    assert isinstance(error, QuantumGraphExecutorError)
    assert [quantum.status for quantum in ours.quantaReports].count(ExecutionStatus.FAILURE) == 1
    assert len([key for key in repository.datasets(root, "ours") if key[0] == "scaled"]) < 6


def test_a_fixup_orders_quanta_and_a_circle_is_refused(root, tmp_path):
    class VisitsDown(ExecutionGraphFixup):
        circle = False

        def fixup_graph(self, xgraph, quanta_by_task):
            (first, second) = (quanta_by_task["add"][data_id] for data_id in sorted(quanta_by_task["add"]))
            xgraph.add_edge(second, first)
            if self.circle:
                xgraph.add_edge(first, second)

    _, error = run_ours(root, "ours", options={"execution_graph_fixup": VisitsDown()})
    assert error is None
    starts = {record.data_id: record.start_s for record in records(tmp_path) if record.name == "add"}
    assert starts["{instrument: 'Cam', visit: 2}"] < starts["{instrument: 'Cam', visit: 1}"]
    VisitsDown.circle = True
    _, error = run_ours(root, "circle", options={"execution_graph_fixup": VisitsDown()})
    assert isinstance(error, QuantumGraphExecutorError)
    assert "circle" in str(error)


def test_what_cannot_be_done_is_told_before_any_quantum(root):
    executor, graph = repository.executor_and_graph(root, "ours")
    ours = QuantumGraphExecutor(SingleQuantumExecutor(butler=executor._butler), workers=1)
    with pytest.raises(RuntimeError, match="before execute"):
        ours.getReport()
    with pytest.raises(NotImplementedError, match="provenance"):
        ours.execute(graph, provenance_graph_file="x")
    unsendable = QuantumGraphExecutor(lambda: None, workers=1)
    with pytest.raises(QuantumGraphExecutorError, match="cannot be sent"):
        unsendable.execute(graph)
    assert unsendable.getReport().status is ExecutionStatus.FAILURE
