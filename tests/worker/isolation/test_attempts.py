"""Calls with limited attempts, as the scheduler counts them."""

from __future__ import annotations

import asyncio

from runmem.worker.isolation.attempts import Attempts


def test_an_attempt_counts_until_the_result_is_known_and_forgotten_with_its_task() -> None:
    attempts = Attempts("a-run")

    def answer(result: bytes | None = None) -> tuple[int, bytes | None]:
        return asyncio.run(attempts.answer("key", result))

    assert [answer(), answer()] == [(1, None), (2, None)]
    assert answer(b"result") == (2, b"result")
    assert answer() == (2, b"result")
    attempts.transition("key", "memory", "released")
    assert answer() == (2, b"result")
    attempts.transition("key", "released", "forgotten")
    assert answer() == (1, None)
