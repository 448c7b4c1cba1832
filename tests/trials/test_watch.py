"""Methods that share an execution, and the reported overhead of a trial."""

from __future__ import annotations

import sys

import pytest

from runmem.trials.methods import METHODS
from runmem.trials.outcome import CommandOutcome
from runmem.trials.report.overhead import overheads_of, wall_grid
from runmem.trials.report.results import results_of
from runmem.trials.starts import STARTS
from runmem.trials.trial import Plan, Trial, TrialExecution
from runmem.trials.variants import Variant
from runmem.trials.watch import Watch, is_slowed_down

SWARM = Variant("command", ("sh", "-c", "for n in $(seq 100); do /bin/true; done"))
COMPUTING = Variant("command", (sys.executable, "-c", "for n in range(24_000_000): pass"))


def trial_of(variant, *names, **options):
    made = Trial(Plan([variant], [], [METHODS[name] for name in names], [STARTS["local"]], **options))
    made.run()
    assert made.failed == []
    return made


def watches(trial):
    return [(each.repeat, each.watch) for each in trial.executions]


def test_what_starts_many_short_processes_gives_hwm_executions_of_its_own():
    trial = trial_of(SWARM, "hwm", "rusage", repeat=3)
    assert watches(trial)[0] == (1, Watch.ALL)
    assert set(watches(trial)[1:]) == {(n, watch) for n in (2, 3) for watch in (Watch.UNTRACED, Watch.TRACED)}
    for each in trial.executions:
        assert (each.readings["hwm"].size_bytes is None) == (each.watch is Watch.UNTRACED)
        assert (each.readings["rusage"].size_bytes is None) == (each.watch is Watch.TRACED)
    results = results_of(trial)
    assert {cell.column.name: cell.spread.count for cell in results.cells} == {"hwm": 3, "hwm sum": 3, "rusage": 3}
    assert any("so after the first execution hwm had separate executions" in each for each in results.sentences())
    notes = {row[1]: row[-1] for row in results.grids()[0].rows}
    assert "separate executions" in notes["hwm"]
    assert "separate" not in notes["rusage"]


def test_what_computes_is_watched_by_all_methods_in_each_execution():
    for _ in range(5):  # on a busy machine a stopped process may wait long before it goes on
        trial = trial_of(COMPUTING, "hwm", "rusage", repeat=2)
        if not is_slowed_down(trial.executions[0].outcome):
            break
    assert watches(trial) == [(1, Watch.ALL), (2, Watch.ALL)]
    assert results_of(trial).grids()[1].title != "Wall time"


def test_hwm_alone_is_not_split_and_reports_its_overhead():
    trial = trial_of(SWARM, "hwm", repeat=2)
    assert watches(trial) == [(1, Watch.ALL), (2, Watch.ALL)]
    assert any("stopped it for at least" in each for each in results_of(trial).sentences())


def test_executions_without_a_method_are_what_the_others_are_compared_with():
    trial = trial_of(COMPUTING, "rusage", repeat=2, overhead=True)
    bare = [each for each in trial.executions if each.watch is Watch.NOTHING]
    assert [each.repeat for each in bare] == [1, 2]
    assert all(reading.size_bytes is None for each in bare for reading in each.readings.values())
    assert all(cell.spread.count == 2 for cell in results_of(trial).cells)
    grid = results_of(trial).grids()[1]
    assert grid.title == "Wall time"
    assert [row[1] for row in grid.rows] == ["all methods", "nothing"]


def timed(watch, *wall_times_s):
    return [
        TrialExecution(SWARM, "local", 1, 0.0, CommandOutcome(0, wall_s), {}, watch=watch) for wall_s in wall_times_s
    ]


def test_medians_are_compared():
    plan = Plan([SWARM], [], [], [STARTS["local"]])
    done = [*timed(Watch.ALL, 9.0), *timed(Watch.UNTRACED, 1.0, 2.0, 90.0), *timed(Watch.TRACED, 2.5, 3.0, 3.5)]
    (overhead,) = overheads_of(Trial(plan, executions=done))
    assert overhead.ratio(Watch.TRACED) == pytest.approx(0.5)
    assert overhead.ratio(Watch.UNTRACED) is None
    assert (
        "+50.0% wall (medians: 3.000 s, and 2.000 s under methods that stop nothing; the ranges overlap)"
        in (overhead.sentences("")[0])
    )
    assert [row[-1] for row in wall_grid([overhead], False).rows] == ["+350.0%", "-", "+50.0%"]


def test_where_everything_watched_the_same_there_is_nothing_to_compare():
    (overhead,) = overheads_of(Trial(Plan([SWARM], [], [], [STARTS["local"]]), executions=timed(Watch.ALL, 1.0)))
    assert overhead.base is None
    assert overhead.sentences("") == []
    assert overhead.note is None
    assert wall_grid([overhead], False).rows == []


@pytest.mark.parametrize(
    ("wall_s", "stopped_s", "disturbed"),
    [(1.0, 0.02, True), (1.0, 0.005, False), (0.01, 0.001, False), (1.0, None, False), (None, 0.5, False)],
)
def test_a_hundredth_of_the_time_is_too_much(wall_s, stopped_s, disturbed):
    assert is_slowed_down(CommandOutcome(0, wall_s, stopped_s=stopped_s)) is disturbed
