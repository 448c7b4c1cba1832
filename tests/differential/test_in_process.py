"""Generated programs give the same on a cluster, whatever it does, as one call after the other."""

from __future__ import annotations

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from grammar import programs
from in_process import Schedule, stepped
from running import Outcome, run_sequentially, run_with

SCHEDULES = st.builds(
    Schedule,
    seed=st.integers(0, 2**20),
    workers=st.integers(1, 2),
    short=st.sampled_from([0.0, 0.5, 1.0]),
    known=st.sampled_from([1.0, 0.3]),
    deaths=st.sampled_from([0.0, 0.1, 0.3]),
    eager=st.sampled_from([0.0, 0.3, 1.0]),
)


def on_the_cluster(source: str, schedule: Schedule) -> Outcome:
    with stepped(schedule) as submitter:
        return run_with(submitter, source)


@settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.lists(SCHEDULES, min_size=1, max_size=2))
def test_a_program_gives_the_same_on_a_cluster(source: str, schedules: list[Schedule]) -> None:
    note(source)
    expected = run_sequentially(source)
    for schedule in schedules:
        note(str(schedule))
        assert on_the_cluster(source, schedule) == expected
