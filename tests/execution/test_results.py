"""Results on their way from the cluster to the program."""

from __future__ import annotations

import pytest

from runmem.errors import ResultError
from runmem.execution.results import loaded_value
from runmem.graph.call import Execution, Version
from runmem.serialization.packed import pack_value


class _ExitsWhenUnpickled:
    def __getstate__(self) -> dict[str, int]:
        return {"depth": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        raise SystemExit(4)


def test_a_result_whose_class_exits_when_it_is_unpickled_does_not_end_the_program() -> None:
    version = Version(Execution(7, "load", 1), 0)
    with pytest.raises(ResultError, match=r"the result of task load \(call 7\) cannot be unpickled .*SystemExit: 4"):
        loaded_value(version, pack_value(_ExitsWhenUnpickled(), "the result"))
