from __future__ import annotations

import pytest

from runmem.trials.kinds import ProgramKind, program_kind
from runmem.trials.methods import METHODS, Reading
from runmem.trials.outcome import CommandOutcome, ProcessEnd
from runmem.trials.report.results import results_of
from runmem.trials.starts import STARTS
from runmem.trials.trial import Plan, Trial, TrialExecution
from runmem.trials.truth import Truth
from runmem.trials.variants import Variant
from runmem.units import MIB


def readings(**sizes):
    return {
        name.replace("_", " "): Reading(name.replace("_", " "), size and size * MIB) for name, size in sizes.items()
    }


def execution(variant, repeat=1, truth=None, exit_code=0, **sizes):
    return TrialExecution(variant, "local", repeat, 0.0, CommandOutcome(exit_code, 1.0), readings(**sizes), truth)


def trial_of(variants, executions, *methods, kind=("one",)):
    plan = Plan(variants, [], [METHODS[name] for name in methods], [STARTS["local"]])
    return Trial(plan, executions=executions, kind=ProgramKind(kind, "a kind"))


COMMAND = Variant("command", ("app",))
CONTROL = Variant("control", ("control",), pattern="one")
SPIKE = Variant("control", ("control",), pattern="spike")


def truth(pattern, process=100, tree=100):
    return Truth(pattern, process * MIB, tree * MIB, 0)


def test_a_method_is_trusted_if_it_was_right_on_every_control():
    executions = [
        execution(COMMAND, tree=300, time=310),
        execution(CONTROL, truth=truth("one"), tree=101, time=100),
        execution(SPIKE, truth=truth("spike"), tree=60, time=100),
    ]
    results = results_of(trial_of([COMMAND], executions, "tree", "time"))
    assert [each.column.name for each in results.verdict.columns if each.is_trusted] == ["time"]
    text = "\n".join(results.sentences())
    assert "Memory of the command (one process): trust time (310.0 MiB)" in text
    assert "Not tree: -40.00 MiB on spike (sampled: misses peaks shorter than two samples)" in text


def test_of_several_processes_the_largest_is_not_taken_for_all():
    executions = [
        execution(COMMAND, tree=600, time=310),
        execution(CONTROL, truth=truth("one", 100, 300), tree=300, time=100),
    ]
    sentences = results_of(trial_of([COMMAND], executions, "tree", "time", kind=("one", "parallel"))).sentences()
    assert any(
        s.startswith("All processes together") and "trust tree (600.0 MiB)" in s and "time" not in s for s in sentences
    )
    assert any(s.startswith("The largest process alone") and "trust time (310.0 MiB)" in s for s in sentences)


def test_a_control_that_the_command_is_like_and_that_was_not_run_is_named():
    executions = [execution(COMMAND, tree=33, time=33), execution(CONTROL, truth=truth("one"), tree=100, time=100)]
    alone = results_of(trial_of([COMMAND], executions, "tree", "time", kind=("one", "turn"))).sentences()
    assert any(
        "No control of the pattern turn was run" in sentence and "--control turn" in sentence for sentence in alone
    )
    executions.append(execution(Variant("control", ("c",), pattern="turn"), truth=truth("turn"), tree=100, time=100))
    both = results_of(trial_of([COMMAND], executions, "tree", "time", kind=("one", "turn"))).sentences()
    assert not any("No control of the pattern" in sentence for sentence in both)


def test_where_none_was_right_the_nearest_is_named_with_its_error():
    executions = [execution(COMMAND, cgroup=50), execution(CONTROL, truth=truth("one"), cgroup=95)]
    text = "\n".join(results_of(trial_of([COMMAND], executions, "cgroup")).sentences())
    assert (
        "no method was right on all controls; the nearest is cgroup (50.0 MiB), off by -5.00 MiB of 100.0 MiB" in text
    )


def test_without_a_control_nothing_is_trusted():
    results = results_of(trial_of([COMMAND], [execution(COMMAND, tree=300)], "tree"))
    assert not results.verdict.of("tree", "local").is_trusted
    assert "No control ran" in results.sentences()[-1]


def test_failed_and_warm_up_executions_do_not_count():
    executions = [execution(COMMAND, 0, tree=1), execution(COMMAND, exit_code=1, tree=2), execution(COMMAND, tree=300)]
    (cell,) = results_of(trial_of([COMMAND], executions, "tree")).cells
    assert (cell.spread.count, cell.spread.mean) == (1, 300 * MIB)


def test_a_constant_is_flagged_when_other_methods_see_the_workload():
    variants = [Variant("command", ("app", n), {"n": n}) for n in ("1", "2", "4")]
    executions = [execution(v, r, tree=100 * int(v.values["n"]) + r, top=2) for v in variants for r in (1, 2)]
    results = results_of(trial_of(variants, executions, "tree", "top"))
    assert results.insensitive == [("local", "top")]
    assert results.sentences()[-1].startswith("top: insensitive to the workload, while other methods saw it change")
    (slope,) = results.fits["local", "tree"].slopes
    assert slope.value == pytest.approx(100 * MIB)
    assert slope.is_seen


def test_a_largest_process_that_stays_the_same_is_not_taken_for_a_wrapper():
    variants = [Variant("command", ("app",), {"cores": n}) for n in ("1", "2")]
    executions = [
        execution(v, tree=50 * n, hwm=48, hwm_sum=48 * n, time=48, top=2) for n, v in enumerate(variants, start=1)
    ]
    results = results_of(trial_of(variants, executions, "tree", "hwm", "time", "top"))
    assert {("local", "hwm"), ("local", "time"), ("local", "top")} <= set(results.insensitive)
    wrapper, largest = results.sentences()[-2:]
    assert wrapper.startswith("top: insensitive to the workload, while other methods saw it change")
    assert largest.startswith("hwm, time: insensitive to the workload: the largest process has the same size")


def test_a_baseline_gives_ratios():
    baseline = Variant("baseline", ("old",))
    executions = [execution(baseline, tree=100), execution(COMMAND, tree=150)]
    cells = results_of(trial_of([COMMAND, baseline], executions, "tree")).cells
    assert [cell.ratio for cell in cells] == [None, 1.5]


def test_a_missing_value_is_shown_with_its_reason_and_never_as_zero():
    done = TrialExecution(
        COMMAND, "local", 1, 0.0, CommandOutcome(0), {"tree": Reading("tree", None, "it ended at once")}
    )
    grid = results_of(trial_of([COMMAND], [done], "tree")).grids()[0]
    assert grid.rows[0][2:6] == ["-"] * 4
    assert grid.rows[0][-1] == "it ended at once"


def test_a_method_may_be_right_under_one_start_and_wrong_under_another():
    def by(start, done):
        return TrialExecution(done.variant, start, 1, 0.0, done.outcome, done.readings, done.truth)

    executions = [
        by(start, each)
        for start, told in (("local", 100), ("sbatch", 60))
        for each in (execution(COMMAND, tree=300), execution(CONTROL, truth=truth("one"), tree=told))
    ]
    plan = Plan([COMMAND], [], [METHODS["tree"]], [STARTS["local"], STARTS["sbatch"]])
    results = results_of(Trial(plan, executions=executions, kind=ProgramKind(("one",), "a kind")))
    assert results.verdict.of("tree", "local").is_trusted
    assert not results.verdict.of("tree", "sbatch").is_trusted
    text = "\n".join(results.sentences())
    assert "Started by local: Memory of the command (one process): trust tree" in text
    assert "Started by sbatch: Not tree: -40.00 MiB on one" in text
    errors = [grid for grid in results.grids() if grid.title.startswith("Error on controls")][0]
    assert [row[:4] for row in errors.rows[:2]] == [
        ["local", "tree", "tree", "+0 B"], ["sbatch", "tree", "tree", "-40.00 MiB"]
    ]  # fmt: skip


def test_a_column_is_shown_for_the_starts_that_it_can_measure():
    plan = Plan([COMMAND], [], [METHODS["rusage"], METHODS["tree"]], [STARTS["local"], STARTS["srun"]])
    done = [
        TrialExecution(COMMAND, start, 1, 0.0, CommandOutcome(0), readings(rusage=1, tree=1))
        for start in ("local", "srun")
    ]
    cells = results_of(Trial(plan, executions=done)).cells
    assert [(cell.start, cell.column.name) for cell in cells] == [
        ("local", "rusage"), ("local", "tree"), ("srun", "tree")
    ]  # fmt: skip


def test_what_leaves_a_part_out_is_not_trusted_however_right_on_the_controls():
    part = TrialExecution(
        COMMAND, "local", 1, 0.0, CommandOutcome(0), {"time": Reading("time", MIB, "the wrapper", True)}
    )
    executions = [part, execution(CONTROL, truth=truth("one"), time=100)]
    results = results_of(trial_of([COMMAND], executions, "time"))
    assert not results.verdict.of("time", "local").is_trusted
    assert any(sentence.startswith("Not time: it left out a part of the command") for sentence in results.sentences())


def process(pid, start_s, end_s, peak_mib):
    return ProcessEnd(pid, 1, "p", start_s, end_s, peak_mib * MIB)


@pytest.mark.parametrize(
    ("processes", "sizes", "patterns"),
    [
        ([process(1, 0, 9, 100)], {"hwm": 100, "tree": 100}, ("one",)),
        ([process(1, 0, 9, 100)], {"hwm": 100, "tree": 80}, ("one", "spike")),
        ([process(1, 0, 9, 100), process(2, 1, 2, 20)], {"hwm_sum": 120, "tree": 100}, ("one",)),
        ([process(1, 0, 9, 100), process(2, 1, 2, 20)], {"hwm_sum": 190, "tree": 100}, ("one", "turn")),
        ([process(1, 0, 9, 100)], {"hwm": 100, "tree": 100, "cgroup": 300}, ("one", "cache")),
        ([process(1, 0, 9, 60)], {"hwm": 60, "hwm_sum": 60, "tree": 30, "cgroup": 55}, ("one", "spike")),
        ([process(1, 0, 9, 9), process(2, 1, 8, 100), process(3, 2, None, 90)], {}, ("one", "parallel")),
        ([process(1, 0, 9, 9), process(2, 1, 3, 100), process(3, 4, 5, 90)], {}, ("one", "turn")),
        ([process(1, 0, 9, 100), process(2, 1, 3, 100)], {"tree": 200, "pss": 101}, ("one", "parallel", "fork")),
    ],
)
def test_the_kind_of_a_program_decides_on_its_controls(processes, sizes, patterns):
    done = (CommandOutcome(0, 9.0, 1, tuple(processes)), readings(**sizes))
    assert program_kind([done], [], 0.1).patterns == patterns


def test_a_program_that_was_not_followed_gets_every_control():
    assert len(program_kind([(CommandOutcome(0, 9.0), {})], [], 0.1).patterns) == 7


def test_a_start_without_controls_is_reported():
    def started(variant, start, right=None):
        return TrialExecution(variant, start, 1, 0.0, CommandOutcome(0), readings(rusage=100, tree=100), right)

    done = [started(COMMAND, "local"), started(COMMAND, "srun"), started(CONTROL, "local", truth("one"))]
    plan = Plan([COMMAND], [], [METHODS["tree"]], [STARTS["local"], STARTS["srun"]])
    said = results_of(Trial(plan, executions=done, kind=ProgramKind(("one",), "a kind"))).sentences()
    assert any(each.startswith("Started by local: Memory of the command (one process): trust tree") for each in said)
    assert any(each.startswith("Started by srun: No control ran") for each in said)
