"""Blocked matrix multiplication by runmem and by Dask written by hand: time, and memory of all processes together.

python benchmarks/matmul.py [ROUNDS] [BLOCKS]

Multiplies matrices of BLOCKS x BLOCKS blocks of 8 MB (default 4) on 2 workers of one thread. The blocks are made by
tasks and the result is reduced to one number, so that the arrays stay on the workers. runmem updates each block of the
result in place (INOUT); Dask adds into new arrays, and in a second variant into the array of the call before, which is
wrong in general: a result of Dask must not be changed. Ratios to the first are wanted below 1.1.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

WORKERS = 2
SIDE = 1000  # of a block: 8 MB


def make_block(seed: int) -> Any:
    return np.random.default_rng(seed).random((SIDE, SIDE))


def make_zeros() -> Any:
    return np.zeros((SIDE, SIDE))


def add_product(total: Any, left: Any, right: Any) -> Any:
    return total + left @ right


def add_product_in_place(total: Any, left: Any, right: Any) -> Any:
    total += left @ right
    return total


def update(total: Any, left: Any, right: Any) -> None:
    total += left @ right


def corner(block: Any) -> float:
    return float(block[0, 0])


def by_runmem(blocks: int, folder: str) -> tuple[float, float]:
    import runmem

    made, zeros, read = (runmem.task(returns=1)(function) for function in (make_block, make_zeros, corner))
    add = runmem.task(total=runmem.INOUT)(update)
    with runmem.session(workers=WORKERS, run_folder=folder):
        runmem.wait_on([read(zeros()) for _ in range(2 * WORKERS)])
        start = time.perf_counter()
        left, right = ([[made(i * blocks + j) for j in range(blocks)] for i in range(blocks)] for _ in range(2))
        result = [[zeros() for _ in range(blocks)] for _ in range(blocks)]
        for i in range(blocks):
            for j in range(blocks):
                for k in range(blocks):
                    add(result[i][j], left[i][k], right[k][j])
        corners = runmem.wait_on([read(block) for row in result for block in row])
        return time.perf_counter() - start, sum(corners)


def by_dask(add: Callable[..., Any]) -> Callable[[int, str], tuple[float, float]]:
    def run(blocks: int, folder: str) -> tuple[float, float]:
        import distributed

        with distributed.Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as client:

            def call(function: Callable[..., Any], *args: Any) -> Any:
                return client.submit(function, *args, pure=False)

            client.gather([call(corner, call(make_zeros)) for _ in range(2 * WORKERS)])
            start = time.perf_counter()
            left, right = (
                [[call(make_block, i * blocks + j) for j in range(blocks)] for i in range(blocks)] for _ in range(2)
            )
            result = [[call(make_zeros) for _ in range(blocks)] for _ in range(blocks)]
            for i in range(blocks):
                for j in range(blocks):
                    for k in range(blocks):
                        result[i][j] = call(add, result[i][j], left[i][k], right[k][j])
            corners = client.gather([call(corner, block) for row in result for block in row])
            return time.perf_counter() - start, sum(corners)

    return run


WAYS = {"Dask": by_dask(add_product), "Dask, in place": by_dask(add_product_in_place), "runmem": by_runmem}


def measure(way: str, blocks: int) -> None:
    """Print seconds, the highest memory of this process and all its children in bytes, and the sum of the corners."""
    top, ended = [0], threading.Event()

    def sample() -> None:
        own = psutil.Process()
        while not ended.wait(0.02):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            top[0] = max(top[0], total)

    thread = threading.Thread(target=sample)
    thread.start()
    with TemporaryDirectory() as folder:
        seconds, value = WAYS[way](blocks, folder)
    ended.set()
    thread.join()
    print("FOUND", json.dumps([seconds, top[0], value]), flush=True)


def main() -> None:
    if "--only" in sys.argv:
        measure(sys.argv[2], int(sys.argv[3]))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for _ in range(rounds):
        for way, runs in found.items():
            command = [sys.executable, str(Path(__file__)), "--only", way, str(blocks)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env, timeout=600)
            runs.append(json.loads(done.stdout.split("FOUND ")[1]))
    assert len({round(run[2], 6) for runs in found.values() for run in runs}) == 1, "the results differ"
    medians = {way: [statistics.median(values) for values in zip(*runs, strict=True)] for way, runs in found.items()}
    seconds, top, _ = medians["Dask"]
    for way, values in medians.items():
        print(
            f"{way:16} {values[0]:6.2f} s {values[0] / seconds:5.2f} x   peak {values[1] / 2**20:7.0f} MiB"
            f" {values[1] / top:5.2f} x"
        )


if __name__ == "__main__":
    main()
