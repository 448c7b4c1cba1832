"""Real quantum graphs on the cluster: outputs as those of LSST's own executor, and what fails fails alone."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
sys.path.insert(0, str(Path(__file__).parent))

import repository  # noqa: E402
from lsst.daf.butler import Butler  # noqa: E402
from lsst.pipe.base.execution_graph_fixup import ExecutionGraphFixup  # noqa: E402
from lsst.pipe.base.mp_graph_executor import MPGraphExecutor, MPGraphExecutorError, MPTimeoutError  # noqa: E402
from lsst.pipe.base.quantum_reports import ExecutionStatus  # noqa: E402
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor  # noqa: E402

import runmem  # noqa: E402
from runmem.errors import SettingError  # noqa: E402
from runmem.lsst import QuantumGraphExecutor, QuantumGraphExecutorError  # noqa: E402
from runmem.store.run import read_run  # noqa: E402
from runmem.units import MIB  # noqa: E402

APP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import repository
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor
from runmem import task, wait_on
from runmem.lsst import QuantumGraphExecutor

@task(returns=1)
def double(number):
    return 2 * number

if __name__ == "__main__":
    before = double(4)
    executor, graph = repository.executor_and_graph(sys.argv[1], "app", old=True)
    quanta = QuantumGraphExecutor(SingleQuantumExecutor(butler=executor._butler))
    executor.run_pipeline(graph, graph_executor=quanta)
    print(quanta.getReport().status.name, wait_on(double(wait_on(before))))
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """The repository of all tests; each writes to a run of its own."""
    return repository.make_repository(str(tmp_path_factory.mktemp("quanta") / "repo"))


@pytest.fixture
def root(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return repo


@pytest.fixture(scope="module")
def theirs(repo):
    """What LSST's executor with two processes tells and stores."""
    report, error = run_original(repo, "theirs", processes=2)
    assert error is None
    return outcomes(report), comparable(repo, "theirs")


def run_ours(root, run, workers=2, options=None, **config):
    executor, graph = repository.executor_and_graph(root, run, **config)
    single = SingleQuantumExecutor(butler=executor._butler)
    ours = QuantumGraphExecutor(single, workers=workers, **(options or {}))
    error = None
    try:
        executor.run_pipeline(graph, graph_executor=ours)
    except MPGraphExecutorError as raised:
        error = raised
    return ours.getReport(), error


def run_original(root, run, processes=1, **config):
    executor, graph = repository.executor_and_graph(root, run, **config)
    single = SingleQuantumExecutor(butler=executor._butler)
    # A new process for each quantum, as by default; from this server it need not import LSST's packages first.
    multiprocessing.set_forkserver_preload(["lsst.pipe.base.single_quantum_executor", "pipeline_tasks"])
    original = MPGraphExecutor(num_proc=processes, timeout=600, quantum_executor=single, start_method="forkserver")
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
    """Return what a run holds; of metadata the names (values are times and sizes), of logs that they are.

    The names by which runmem tells how it measured the peaks are left out.
    """
    found = {}
    for key, content in repository.datasets(root, run).items():
        if key[0].endswith("_metadata"):
            names = sorted(name for name in content.names() if not name.endswith("PeakMethod"))
            content = names, content["quantum.caveats"], len(content.getArray("quantum.outputs"))
        found[key] = None if key[0].endswith("_log") else content
    return found


def assert_same_outputs(found, expected):
    expected = dict(expected)
    assert len([key for key in expected if key[0] == "total"]) == 2
    assert found.pop(("scale_config",)).compare(expected.pop(("scale_config",)))
    assert found.pop(("add_config",)).compare(expected.pop(("add_config",)))
    assert found == expected


def records(tmp_path):
    return [record for folder in sorted(tmp_path.glob("runmem_runs/quanta_*")) for record in read_run(folder).records]


@pytest.fixture(scope="module")
def ours(repo, tmp_path_factory):
    """What our executor tells and stores, and the folder with the run that it made for it."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("ours")
    os.chdir(folder)
    try:
        report, error = run_ours(repo, "ours")
    finally:
        os.chdir(before)
    assert error is None
    return report, folder


def test_outputs_are_those_of_the_original_executor(root, ours, theirs):
    ours, folder = ours
    assert outcomes(ours) == theirs[0]
    assert ours.status is ExecutionStatus.SUCCESS
    assert_same_outputs(comparable(root, "ours"), theirs[1])
    quantum = Butler.from_config(root, collections=["ours"]).get(
        "scale_metadata", instrument="Cam", visit=1, detector=0
    )
    assert (quantum["quantum.endPeakMethod"], quantum["scale.runPeakMethod"]) == ("hwm", "hwm")
    assert not list(folder.glob(".runmem-quanta-*"))


def test_the_quanta_of_a_program_under_runmem_are_tasks_of_its_run_beside_its_own(root, tmp_path, theirs):
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "-m", "runmem", "--workers=2", "--python_memory_profile", "app.py", root],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "SUCCESS 16\n"), done.stderr
    assert_same_outputs(comparable(root, "app"), theirs[1])
    assert [folder.name for folder in (tmp_path / "runmem_runs").iterdir()] == ["app_01"]
    found = read_run(tmp_path / "runmem_runs" / "app_01").records
    assert Counter(record.name for record in found) == {"scale": 8, "add": 2, "double": 2}
    assert {record.status for record in found} == {"finished"}
    sizes = {
        f"{{instrument: 'Cam', detector: {detector}, visit: {visit}}}": mebibytes
        for visit in repository.VISITS for detector, mebibytes in repository.SIZES.items()
    }  # fmt: skip
    for record in found:
        if record.name == "scale":
            assert record.increment_bytes >= sizes.pop(record.data_id) * MIB - MIB / 2
    assert sizes == {}


def test_each_quantum_has_a_record_with_label_data_id_and_its_own_peak(root, ours):
    by_name = {(record.name, record.data_id): record for record in records(ours[1])}
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


def test_with_fail_fast_nothing_begins_after_the_first_failure(root, tmp_path):
    ours, error = run_ours(root, "fail_fast", workers=1, options={"fail_fast": True}, failing=[0])
    assert isinstance(error, QuantumGraphExecutorError)
    failed = [quantum.exceptionInfo for quantum in ours.quantaReports if quantum.status is ExecutionStatus.FAILURE]
    assert [info.className for info in failed if "it was ended, because" not in info.message] == ["ValueError"]
    assert len(failed) <= 2  # the one that the worker has begun meanwhile
    assert len([key for key in repository.datasets(root, "fail_fast") if key[0] == "scaled"]) < 6


def test_with_fail_fast_a_quantum_that_runs_is_ended(root, tmp_path):
    meeting = str(tmp_path / "runs")
    options = {"fail_fast": True}
    ours, error = run_ours(root, "stopped", workers=3, options=options, failing=[1], hanging=[0], meeting=meeting)
    assert isinstance(error, QuantumGraphExecutorError)
    assert [quantum.status for quantum in ours.quantaReports].count(ExecutionStatus.FAILURE) >= 2
    reasons = [str(quantum.exceptionInfo) for quantum in ours.quantaReports if quantum.exceptionInfo is not None]
    assert any("it was ended, because another quantum failed" in reason for reason in reasons)


def test_what_cannot_be_done_is_told_before_any_quantum(root):
    executor, graph = repository.executor_and_graph(root, "refused")
    ours = QuantumGraphExecutor(SingleQuantumExecutor(butler=executor._butler), workers=1)
    with pytest.raises(RuntimeError, match="before execute"):
        ours.getReport()
    with pytest.raises(NotImplementedError, match="provenance"):
        ours.execute(graph, provenance_graph_file="x")
    unsendable = QuantumGraphExecutor(lambda: None, workers=1)
    with pytest.raises(QuantumGraphExecutorError, match="cannot be sent"):
        unsendable.execute(graph)
    assert unsendable.getReport().status is ExecutionStatus.FAILURE


@pytest.fixture(scope="class")
def run_under_way(tmp_path_factory):
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("under_way"))
    try:
        with runmem.session(app="suite", workers=2, python_memory_profile=True) as run:
            yield run
    finally:
        os.chdir(before)


@pytest.mark.usefixtures("run_under_way")
class TestQuantaOfARunThatIsUnderWay:
    """One run for all of these: its workers have imported LSST's packages when the first is done."""

    @pytest.fixture
    def new_records(self, run_under_way):
        """Return a function that gives the records of this test's quanta."""

        def records_so_far():
            run_under_way.collector.collect()
            return read_run(run_under_way.directory.root).records

        before = {record.task_id for record in records_so_far()}
        return lambda: [record for record in records_so_far() if record.task_id not in before]

    def test_a_failing_quantum_fails_what_depends_on_it_and_nothing_else(self, root, new_records):
        theirs, their_error = run_original(root, "their_failing", failing=[1])
        ours, error = run_ours(root, "failing", failing=[1])
        assert isinstance(error, QuantumGraphExecutorError)
        assert isinstance(their_error, MPGraphExecutorError)
        assert outcomes(ours) == outcomes(theirs)
        assert comparable(root, "failing").keys() == comparable(root, "their_failing").keys()
        failed = [quantum for quantum in ours.quantaReports if quantum.status is ExecutionStatus.FAILURE]
        assert {quantum.exceptionInfo.message for quantum in failed} == {"detector 1 is broken"}
        assert {quantum.exceptionInfo.className for quantum in failed} == {"ValueError"}
        assert ours.status is theirs.status is ExecutionStatus.FAILURE
        assert {record.exception for record in new_records() if record.status == "failed"} == {"ValueError"}

    def test_quanta_that_are_done_are_skipped_as_by_the_original_executor(self, root):
        _, error = run_ours(root, "again", failing=[1])
        assert isinstance(error, QuantumGraphExecutorError)
        executor, graph = repository.executor_and_graph(root, "again", again=True)
        single = SingleQuantumExecutor(butler=executor._butler, skip_existing_in=["again"], clobber_outputs=True)
        ours = QuantumGraphExecutor(single)
        executor.run_pipeline(graph, graph_executor=ours)
        assert len([key for key in repository.datasets(root, "again") if key[0] == "total"]) == 2
        assert ours.getReport().status is ExecutionStatus.SUCCESS

    def test_an_exit_in_a_task_fails_that_quantum(self, root):
        ours, error = run_ours(root, "exiting", exiting=[0])
        assert isinstance(error, QuantumGraphExecutorError)
        assert sum(quantum.status is ExecutionStatus.SUCCESS for quantum in ours.quantaReports) == 6

    def test_a_fixup_orders_quanta_and_a_circle_is_refused(self, root, new_records):
        class VisitsDown(ExecutionGraphFixup):
            circle = False

            def fixup_graph(self, xgraph, quanta_by_task):
                (first, second) = (quanta_by_task["add"][data_id] for data_id in sorted(quanta_by_task["add"]))
                xgraph.add_edge(second, first)
                if self.circle:
                    xgraph.add_edge(first, second)

        _, error = run_ours(root, "fixed_up", options={"execution_graph_fixup": VisitsDown()})
        assert error is None
        added = {record.data_id: record for record in new_records() if record.name == "add"}
        assert added["{instrument: 'Cam', visit: 2}"].end_s <= added["{instrument: 'Cam', visit: 1}"].start_s
        VisitsDown.circle = True
        _, error = run_ours(root, "circle", options={"execution_graph_fixup": VisitsDown()})
        assert isinstance(error, QuantumGraphExecutorError)
        assert "circle" in str(error)

    def test_a_fixup_of_the_older_form_orders_quanta_too(self, root, new_records):
        class OldFixup(ExecutionGraphFixup):
            def fixupQuanta(self, graph):
                adding = [node for node in graph if node.taskDef.label == "add"]
                second, first = sorted(adding, key=lambda node: -node.quantum.dataId["visit"])
                graph.graph.add_edge(second, first)
                return graph

        _, error = run_ours(root, "old_fixup", options={"execution_graph_fixup": OldFixup()})
        assert error is None
        added = {record.data_id: record for record in new_records() if record.name == "add"}
        assert added["{instrument: 'Cam', visit: 2}"].end_s <= added["{instrument: 'Cam', visit: 1}"].start_s

    def test_a_quantum_whose_time_is_up_is_killed_and_fails_alone(self, root, new_records):
        ours, error = run_ours(root, "hanging", options={"timeout": 5.0}, hanging=[3])
        assert isinstance(error, QuantumGraphExecutorError)
        assert isinstance(error, MPTimeoutError)
        assert ours.status is ExecutionStatus.TIMEOUT
        statuses = {key[:3]: status for *key, status in outcomes(ours) for key in [tuple(key)]}
        for visit in repository.VISITS:
            assert statuses["scale", visit, 3] == ExecutionStatus.TIMEOUT.value
            assert statuses["add", visit, -1] == ExecutionStatus.SKIPPED.value
            assert [statuses["scale", visit, other] for other in (0, 1, 2)] == [ExecutionStatus.SUCCESS.value] * 3
        assert [record.status for record in new_records()].count("killed") == len(repository.VISITS)
        with pytest.raises(SettingError, match="timeout=0"):
            QuantumGraphExecutor(None, timeout=0)

    def test_a_killed_quantum_is_tried_once_and_reported(self, root, new_records):
        ours, error = run_ours(root, "killed", killed=[2])
        assert isinstance(error, QuantumGraphExecutorError)
        statuses = {key[:3]: status for *key, status in outcomes(ours) for key in [tuple(key)]}
        for visit in repository.VISITS:
            assert statuses["scale", visit, 2] == ExecutionStatus.FAILURE.value
            assert statuses["add", visit, -1] == ExecutionStatus.SKIPPED.value
            assert [statuses["scale", visit, other] for other in (0, 1, 3)] == [ExecutionStatus.SUCCESS.value] * 3
        killed = [record for record in new_records() if record.status == "killed"]
        assert sorted(record.data_id for record in killed) == [
            f"{{instrument: 'Cam', detector: 2, visit: {visit}}}" for visit in repository.VISITS
        ]
        assert "TaskKilledError" in {q.exceptionInfo.className.rpartition(".")[2] for q in ours.quantaReports
                                        if q.status is ExecutionStatus.FAILURE}  # fmt: skip
