"""A campaign: random programs, and what people and machines do to them.

    pytest tests/campaign                                    about a minute, always the same seeds
    RUNMEM_CAMPAIGN_S=3600 pytest tests/campaign -k kills         for an hour, from the seeds after those on
    RUNMEM_CAMPAIGN_SEED=1234 pytest tests/campaign -k kills      one trial again, with all that it left

A failure names its seed, the command and the folder. What every trial must show is in `checks.py`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def seeds(first: int, count: int, share: float) -> Iterator[int]:
    """Yield the seeds of a test: `count`, and more for a share of the time given by hand; or the one that is named."""
    if (one := os.environ.get("RUNMEM_CAMPAIGN_SEED")) is not None:
        yield int(one)
        return
    yield from range(first, first + count)
    end_s = time.monotonic() + share * float(os.environ.get("RUNMEM_CAMPAIGN_S", "0"))
    seed = first + count
    while time.monotonic() < end_s:
        yield seed
        seed += 1


@pytest.fixture
def each_seed():
    """Return `seeds`."""
    return seeds
