"""What a worker ran is known after its death."""

from __future__ import annotations

from pathlib import Path

from runmem.worker.running_calls import DyingWorker, RunningCalls, calls_of_dead


def test_the_file_has_the_address_and_the_calls_that_run(tmp_path: Path) -> None:
    path = tmp_path / "running-7.bin"
    assert calls_of_dead(path) is None
    calls = RunningCalls(path, "tls://10.0.0.5:4567")
    assert calls_of_dead(path) == DyingWorker("tls://10.0.0.5:4567", [])
    with calls.bundle() as first, calls.bundle() as second:
        first(5)
        second(2**40)
        first(6)
        assert calls_of_dead(path) == DyingWorker("tls://10.0.0.5:4567", [6, 2**40])
    assert calls_of_dead(path) == DyingWorker("tls://10.0.0.5:4567", [])
    path.write_bytes(path.read_bytes()[:-3])  # cut off, on a full disk
    assert calls_of_dead(path) == DyingWorker("tls://10.0.0.5:4567", [])


def test_more_bundles_than_slots_are_not_noted(tmp_path: Path) -> None:
    calls = RunningCalls(tmp_path / "running-7.bin", "a")
    bundles = [calls.bundle() for _ in range(300)]
    for number, bundle in enumerate(bundles, 1):
        bundle.__enter__()(number)
    ran = calls_of_dead(tmp_path / "running-7.bin")
    assert ran is not None
    assert sorted(ran.calls) == list(range(1, 257))
    for bundle in bundles:
        bundle.__exit__(None, None, None)
    assert calls_of_dead(tmp_path / "running-7.bin") == DyingWorker("a", [])
