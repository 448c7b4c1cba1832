"""Tasks a second: `@task` + `wait_on` beside `client.submit` + `gather` on the same cluster, in one run.

python benchmarks/throughput.py [CALLS] [ROUNDS]

Prints, for no-op tasks on 2 workers: the throughput of both with measuring off, the ratio; the throughput with
measuring on and what it costs; a chain; a round trip; and how many of 200 tasks are lost to one that kills its worker.
Sessions of each kind are interleaved, the median counts, because machines are shared and noisy.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import runmem
from runmem import barrier, task, wait_on

WORKERS = 2


@task(returns=1)
def nothing(value: int) -> int:
    return value


@task(returns=1)
def kill_worker() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def plain_nothing(value: int) -> int:
    return value


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_task(calls: int) -> None:
    values = wait_on([nothing(i) for i in range(calls)])
    assert values == list(range(calls))


def by_chain(calls: int) -> None:
    value: Any = 0
    for _ in range(calls):
        value = nothing(value)
    assert wait_on(value) == 0


def by_submit(client: Any, calls: int) -> None:
    futures = [client.submit(plain_nothing, i, pure=False) for i in range(calls)]
    assert client.gather(futures) == list(range(calls))


def by_submit_chain(client: Any, calls: int) -> None:
    future: Any = 0
    for _ in range(calls):
        future = client.submit(plain_nothing, future, pure=False)
    assert future.result() == 0


def session(folder: str, measuring: bool) -> Any:
    return runmem.session(
        workers=WORKERS, python_memory_profile=measuring, run_folder=folder, worker_profile_path=folder
    )


def rates(calls: int, rounds: int) -> dict[str, list[float]]:
    """Return calls a second by kind, one figure a round. Both submitters use the same cluster within a session."""
    found: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        for measuring in [False, True] * rounds:
            with session(folder, measuring) as run:
                wait_on([nothing(i) for i in range(50)])  # workers warm, durations known
                client = run._connect()[0]
                client.gather(client.map(plain_nothing, range(50), pure=False))
                kind = "measured" if measuring else "task"
                for _ in range(5):
                    found.setdefault(kind, []).append(calls / seconds(lambda: by_task(calls)))
                if measuring:
                    continue
                found.setdefault("submit", []).append(calls / seconds(partial(by_submit, client, calls)))
                found.setdefault("chain", []).append(1000 / seconds(lambda: by_chain(1000)))
                found.setdefault("submit chain", []).append(500 / seconds(partial(by_submit_chain, client, 500)))
                trips = [seconds(lambda: wait_on(nothing(1))) for _ in range(20)]
                found.setdefault("trip", []).append(statistics.median(trips))
                trips = [seconds(partial(by_submit, client, 1)) for _ in range(20)]
                found.setdefault("submit trip", []).append(statistics.median(trips))
    return found


def lost_to_a_kill() -> int:
    """Return how many of 200 tasks fail when one of them kills its worker, the killer included."""
    lost = 0
    with TemporaryDirectory() as folder, session(folder, False):
        wait_on([nothing(i) for i in range(50)])
        futures = [kill_worker() if i == 100 else nothing(i) for i in range(200)]
        for future in futures:
            try:
                wait_on(future)
            except runmem.TaskKilledError:
                lost += 1
        barrier()
    return lost


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found = {kind: statistics.median(values) for kind, values in rates(calls, rounds).items()}
    ratio = found["task"] / found["submit"]
    cost = 1 - found["measured"] / found["task"]
    micros = (1 / found["measured"] - 1 / found["task"]) * 1e6
    print(f"no-op tasks, {WORKERS} workers, {calls} calls a time, medians over {rounds} sessions of each kind")
    print(f"  client.submit + gather        {found['submit']:9.0f} tasks/s")
    print(f"  @task + wait_on               {found['task']:9.0f} tasks/s   {ratio:5.1f} x    (target: at least 2 x)")
    print(f"  ... with memory measured      {found['measured']:9.0f} tasks/s   costs {cost:.1%}, {micros:.0f} us a task"
          "    (target: at most 60 us)")  # fmt: skip
    chain = found["chain"] / found["submit chain"]
    print(f"  chain, client.submit          {found['submit chain']:9.0f} tasks/s")
    print(f"  chain, @task                  {found['chain']:9.0f} tasks/s   {chain:5.1f} x")
    print(f"  round trip, client.submit     {found['submit trip'] * 1e3:9.1f} ms")
    print(f"  round trip, @task             {found['trip'] * 1e3:9.1f} ms")
    print(f"  lost of 200, one kills its worker {lost_to_a_kill():5d}              (target: at most 3)")


if __name__ == "__main__":
    main()
