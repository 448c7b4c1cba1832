"""The fixture `eventually`."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_the_first_true_value_is_returned(eventually: Callable) -> None:
    values = iter([0, "", None, "first", "second"])
    assert eventually(lambda: next(values)) == "first"


def test_a_failure_shows_the_last_value_and_the_source_of_the_condition(eventually: Callable) -> None:
    empty: list[str] = []
    with pytest.raises(pytest.fail.Exception, match=r"still \[\] after 0.02 s: .*lambda: list\(empty\)"):
        eventually(lambda: list(empty), within=0.02)


def test_a_condition_without_source_is_shown_by_its_name(eventually: Callable) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"still 0 after 0.02 s: <method-wrapper '__len__' of list"):
        eventually([].__len__, within=0.02)
