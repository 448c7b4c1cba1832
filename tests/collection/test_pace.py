from __future__ import annotations

import pytest

from runmem.collection.pace import MOST_INTERVAL_S, MOST_PAUSE_S, PAUSE_S, Pace


def rounds(pace: Pace, seconds: float, count: int = 5) -> None:
    for _ in range(count):
        pace.round_took(seconds, 1000)


def test_short_rounds_change_nothing_and_a_single_long_one_neither() -> None:
    pace = Pace(0.1)
    for seconds in (0.01, 0.02, 30.0, 0.01, 0.02, 30.0, 0.01):
        pace.round_took(seconds, 3)
    assert (pace.pause_s, pace.wanted, pace.notes()) == (PAUSE_S, None, [])


def test_the_pause_is_as_long_as_a_round_up_to_a_limit_and_returns() -> None:
    pace = Pace(0.1)
    rounds(pace, 2.5)
    assert pace.pause_s == 2.5
    assert pace.wanted is None
    rounds(pace, 4.0)
    rounds(pace, 0.1)
    assert pace.pause_s == PAUSE_S
    (note,) = pace.notes()
    assert note == (
        "the nodes' files were copied less often: up to 4.0 s passed between two rounds, not 0.4 s, because a round "
        "with 1,000 nodes took as long"
    )


def test_the_samplers_are_asked_only_when_the_longest_pause_is_too_short() -> None:
    """Each step needs rounds of its own, since the last one has to take effect first."""
    pace = Pace(0.1)
    rounds(pace, 4.9, 5)
    assert pace.wanted is None
    rounds(pace, 5.2, 3)
    assert pace.pause_s == MOST_PAUSE_S
    assert pace.wanted is not None
    assert pace.wanted.seconds == 0.2
    assert "interval lengthened from 0.1 s to 0.2 s at " in pace.wanted.reason
    assert pace.wanted.reason.endswith(" because copying the new lines of 1,000 nodes takes 5.2 s")
    rounds(pace, 5.2, 3)
    assert pace.wanted.seconds == 0.2
    rounds(pace, 12.0, 100)
    assert pace.wanted.seconds == MOST_INTERVAL_S
    assert pace.pause_s == MOST_PAUSE_S


def test_very_long_rounds_count_before_there_are_five() -> None:
    """Five rounds of half a minute would take too long."""
    pace = Pace(0.1)
    pace.round_took(30.0, 8000)
    assert (pace.pause_s, pace.wanted) == (PAUSE_S, None)
    pace.round_took(25.0, 8000)
    assert pace.pause_s == MOST_PAUSE_S
    assert pace.wanted is not None
    assert pace.wanted.seconds == 0.2


def test_the_samplers_return_to_the_interval_of_the_user_when_the_load_has_gone() -> None:
    pace = Pace(0.1)
    rounds(pace, 9.0, 6)
    assert pace.wanted is not None
    assert pace.wanted.seconds == pytest.approx(0.4)
    rounds(pace, 3.0, 50)  # halved, it could be too long again
    assert pace.wanted.seconds == pytest.approx(0.4)
    rounds(pace, 1.0, 5)
    assert pace.wanted.seconds == pytest.approx(0.2)
    assert "shortened" in pace.wanted.reason
    rounds(pace, 1.0, 50)
    assert pace.wanted.seconds == 0.1
    assert [note.partition(" at ")[0] for note in pace.notes()[1:]] == [
        "interval lengthened from 0.1 s to 0.2 s",
        "interval lengthened from 0.2 s to 0.4 s",
        "interval shortened from 0.4 s to 0.2 s",
        "interval shortened from 0.2 s to 0.1 s",
    ]


def test_a_longer_interval_of_the_user_is_kept() -> None:
    pace = Pace(60.0)
    rounds(pace, 20.0, 50)
    assert pace.wanted is None
    assert pace.pause_s == MOST_PAUSE_S


def test_without_measurements_there_is_no_sampler_to_ask() -> None:
    pace = Pace(None)
    rounds(pace, 20.0, 50)
    assert (pace.wanted, pace.pause_s) == (None, MOST_PAUSE_S)


def test_the_list_of_changes_stays_short() -> None:
    pace = Pace(0.1)
    for _ in range(200):
        rounds(pace, 9.0)
        rounds(pace, 0.5)
    assert len(pace.notes()) < 30
