"""Numbers of the calls that tasks make."""

from __future__ import annotations

import distributed
import pytest

from runmem.events import FIRST_NESTED
from runmem.execution.nested_numbers import NestedNumbers, NumberSource

pytestmark = pytest.mark.slow


def numbers_of(run_id: str, count: int) -> list[int]:
    source = NestedNumbers(run_id)
    return [source.next() for _ in range(count)]


@pytest.fixture
def client():
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_no_two_workers_give_the_same_number(client):
    client.register_plugin(NumberSource("run"))
    first, second = (client.submit(numbers_of, "run", 40_000, pure=False).result() for _ in range(2))
    assert first[0] == FIRST_NESTED
    assert len({*first, *second}) == 80_000


def test_a_scheduler_without_runmem_does_without(client):
    first, second = (client.submit(numbers_of, "unknown", 3, pure=False).result() for _ in range(2))
    assert len({*first, *second}) == 6
    assert min(*first, *second) >= 2 * FIRST_NESTED
    assert max(*first, *second) < 2**53
