"""Named results."""

from __future__ import annotations

import pytest

from runmem.pipe_base.struct import Struct


def test_results_are_merged_by_name_and_none_is_lost():
    first, second = Struct(a=1), Struct(a=2, b=3, c=4)
    kept = first.copy()
    first.mergeItems(second, "b")
    assert (first, len(first), first.getDict()) == (Struct(a=1, b=3), 2, {"a": 1, "b": 3})
    with pytest.raises(RuntimeError, match="'a' is in this Struct already"):
        first.mergeItems(second, "a")
    assert (first.a, kept) == (1, Struct(a=1))
