"""`pycompss.functions.data`: splits a list into chunks; generates random data in tasks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from runmem.graph.synchronise import wait_on
from runmem.graph.task import task

__all__ = ["chunks", "generator"]

Item = TypeVar("Item")


def chunks(l: Sequence[Item], n: int, balanced: bool = False) -> Iterator[Sequence[Item]]:  # noqa: E741
    """Yield slices of `n` items; if `balanced`, spread the remainder, one item a slice."""
    longer = len(l) % n if balanced else 0
    start = 0
    while start < len(l):
        end = start + n + (longer > 0)
        yield l[start:end]
        start, longer = end, max(longer - 1, 0)


_DRAWS: dict[str, Callable[[random.Random], float]] = {
    "random": lambda source: source.random(),
    "normal": lambda source: source.gauss(0.0, 1.0),
    "uniform": lambda source: source.uniform(-1.0, 1.0),
}


@task(returns=1)  # type: ignore[untyped-decorator]
def random_fragment(rows: int, columns: int, seed: object, distribution: str) -> list[list[float]]:
    """Return a list of rows of random numbers."""
    source, draw = random.Random(seed), _DRAWS[distribution]  # type: ignore[arg-type]
    return [[draw(source) for _ in range(columns)] for _ in range(rows)]


def generator(
    size: tuple[int, int], num_frag: int, seed: object = 0, distribution: str = "random", wait: bool = False
) -> Any:
    """Return `num_frag` futures of lists of random rows, ``size[0]`` rows of ``size[1]`` numbers in all.

    Parameters
    ----------
    seed
        Seed of every fragment, as in PyCOMPSs, so that all fragments are equal; None: all are different.
    distribution : str
        ``random`` (from 0 to 1), ``normal``, or ``uniform`` (from -1 to 1).
    wait : bool
        Whether to return lists in place of futures.
    """
    if distribution not in _DRAWS:
        raise ValueError(f"generator: distribution={distribution!r} is not one of {', '.join(_DRAWS)}")
    rows = int(size[0] / num_frag)
    data = [random_fragment(rows, size[1], seed, distribution) for _ in range(num_frag)]
    return wait_on(data) if wait else data
