"""Real timed methods of LSST tasks, as runmem tasks: each tells its own peak."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")

HERE = Path(__file__).parent
PROLOGUE = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import runmem
from runmem import task, wait_on

@task(returns=1)
def quanta(calls, method="run"):
    import os
    from timed_tasks import TouchTask, items
    lsst_task = TouchTask(config=TouchTask.ConfigClass())
    for arguments in calls:
        try:
            getattr(lsst_task, method)(*arguments)
        except RuntimeError:
            pass
    return os.getpid(), {{name: items(lsst_task, name) for name in {{method, "run"}}
                         if f"{{name}}EndMaxResidentSetSize" in lsst_task.metadata}}
"""


def run(tmp_path, body, **environment):
    """Run a program with one worker under runmem and return what it prints, evaluated."""
    program = tmp_path / "program.py"
    program.write_text(PROLOGUE + textwrap.dedent(body))
    done = subprocess.run(
        [sys.executable, "-m", "runmem", "--workers=1", "--python_memory_profile", str(program)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return eval(done.stdout)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What tasks of one program, one after the other in one worker, tell of their calls."""
    body = """
    @task(returns=1)
    def methods():
        from lsst.pipe.base import TaskMetadata
        from lsst.utils.timer import logInfo
        from timed_tasks import TouchTask
        from runmem.metrics.quantum_usage import quantum_usage
        lsst_task = TouchTask(config=TouchTask.ConfigClass())
        lsst_task.outer(20, 5)
        lsst_task.run(1)
        quantum, plain = TaskMetadata(), {}
        for moment in ("prep", "start", "end"):
            logInfo(None, moment, metadata=quantum)
        logInfo(None, "end", metadata=plain)
        whole = TaskMetadata()
        whole["quantum"] = quantum
        names = {name for name in quantum if name.endswith("Method")}
        usage = quantum_usage(runmem.pipe_base.TaskMetadata.from_metadata(whole))
        return {name: lsst_task.metadata.getArray(f"{name}PeakMethod") for name in ("run", "outer")}, names, \\
            quantum["endPeakMethod"], plain["endPeakMethod"], usage.owner

    def outside():
        from timed_tasks import TouchTask, items
        from runmem.memory.lsst_timer import correct_lsst_timer
        correct_lsst_timer()
        lsst_task = TouchTask(config=TouchTask.ConfigClass())
        lsst_task.run(200)
        lsst_task.run(20)
        return items(lsst_task, "run")

    import runmem.pipe_base
    print({
        "quanta": [wait_on(quanta([(n,)])) for n in (1, 200, 20, 60, 20)][1:],  # the first settles the heap
        "calls": wait_on(quanta([(200,), (20,), (60,), (20,)])),
        "outer": wait_on(quanta([(100, 40), (10, 70)], "outer")),
        "fails": wait_on(quanta([(80,), (20,)], "fails")),
        "metadata": wait_on(methods()),
        "outside": outside(),
    })
    """
    return run(tmp_path_factory.mktemp("timer"), body)


def test_quanta_in_one_process_tell_their_own_peaks(told):
    assert len({pid for pid, _ in told["quanta"]}) == 1
    peaks = [values["run"][0] for _, values in told["quanta"]]
    assert peaks == [pytest.approx([n], abs=0.5) for n in (200, 20, 60, 20)]


def test_methods_timed_one_after_the_other_in_one_task_tell_their_own_peaks(told):
    _, values = told["calls"]
    assert values["run"][0] == pytest.approx([200, 20, 60, 20], abs=0.5)


def test_an_outer_method_holds_its_inner_one_and_not_the_other_way_round(told):
    _, values = told["outer"]
    assert values["outer"][0] == pytest.approx([100, 70], abs=0.5)
    assert values["run"][0] == pytest.approx([40, 70], abs=0.5)
    assert all(outer >= inner for outer, inner in zip(values["outer"][1], values["run"][1], strict=True))


def test_a_method_that_raises_tells_its_peak_and_the_next_one_its_own(told):
    _, values = told["fails"]
    assert values["fails"][0] == pytest.approx([80, 20], abs=0.5)


def test_the_peak_of_the_process_that_started_the_worker_is_not_in_it(tmp_path):
    # The kernel keeps the mark of the process before exec in ru_maxrss: no reset lowers it.
    body = """
    def peaks():
        import resource
        return wait_on(quanta([(20,)])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import os
    if "GROWN" not in os.environ:
        from timed_tasks import touch
        touch(600)
        os.environ["GROWN"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "runmem", "--workers=1", "--python_memory_profile", __file__])
    print(peaks())
    """
    (_, values), inherited_mib = run(tmp_path, body)
    assert inherited_mib > 600
    assert values["run"][0] == pytest.approx([20], abs=0.5)
    assert values["run"][1][0] < 500


def test_on_request_the_original_reading_stays(tmp_path):
    body = "print(wait_on(quanta([(200,), (20,)])))"
    _, values = run(tmp_path, body, RUNMEM_ORIGINAL_LSST_PEAKS="1")
    peaks = values["run"][1]
    assert peaks[1] == pytest.approx(peaks[0], abs=0.5)  # twice the first


def test_outside_of_tasks_the_reading_is_the_original(told):
    _, peaks = told["outside"]
    assert peaks[1] == pytest.approx(peaks[0], abs=0.5)


def test_without_measuring_the_reading_is_the_original(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROLOGUE + "print(wait_on(quanta([(200,), (20,)])))")
    done = subprocess.run(
        [sys.executable, "-m", "runmem", "--workers=1", str(program)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peaks = eval(done.stdout)[1]["run"][1]
    assert peaks[1] == pytest.approx(peaks[0], abs=0.5)


def test_the_metadata_say_that_a_peak_is_the_methods_own(told):
    of_methods, names, of_quantum, of_mapping, owner = told["metadata"]
    assert of_methods == {"run": ["hwm", "hwm"], "outer": ["hwm"]}
    assert (names, of_quantum, of_mapping, owner) == ({"endPeakMethod"}, "hwm", ["hwm"], "own")
