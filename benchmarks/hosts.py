"""Throughput of two hosts beside one: the same number of workers, the same tasks, the same TLS, interleaved.

python benchmarks/hosts.py HOST1 HOST2 [SSH_COMMAND] [ROUNDS]

Prints calls a second of no-op tasks and of tasks of 5 ms, 4 workers, memory measured, and the ratio. On one machine
the hosts may be network namespaces (tests/hosts/hosts.sh, with an sshd in each).
"""

from __future__ import annotations

import statistics
import sys
import time
from tempfile import TemporaryDirectory

import runmem
from runmem import task, wait_on

WORKERS = 4
CALLS = {"nothing": 4000, "five_ms": 800}


@task(returns=1)
def nothing(value: int) -> int:
    return value


@task(returns=1)
def five_ms(value: int) -> int:
    end = time.thread_time() + 0.005
    while time.thread_time() < end:
        pass
    return value


def rates(hosts: str, ssh_command: str) -> dict[str, float]:
    """Return calls a second by task, for workers on `hosts`."""
    found = {}
    with TemporaryDirectory() as folder, runmem.session(
        hosts=hosts, ssh_command=ssh_command, workers=WORKERS, python_memory_profile=True, run_folder=folder,
        worker_profile_path=folder,
    ):  # fmt: skip
        for function in (nothing, five_ms):
            wait_on([function(i) for i in range(100)])  # durations are known
            calls = CALLS[function.__name__]
            start = time.perf_counter()
            assert wait_on([function(i) for i in range(calls)]) == list(range(calls))
            found[function.__name__] = calls / (time.perf_counter() - start)
    return found


def main() -> None:
    first, second = sys.argv[1:3]
    ssh_command = sys.argv[3] if len(sys.argv) > 3 else "ssh"
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    one, two = [], []
    for _ in range(rounds):
        one.append(rates(first, ssh_command))
        two.append(rates(f"{first},{second}", ssh_command))
    print(f"{WORKERS} workers, medians over {rounds} runs of each kind")
    for name in CALLS:
        ratios = [both[name] / single[name] for both, single in zip(two, one, strict=True)]
        print(f"  {name:8} one host {statistics.median(r[name] for r in one):8.0f} tasks/s   two hosts "
              f"{statistics.median(r[name] for r in two):8.0f} tasks/s   ratio {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})   (target: at least 0.9)")  # fmt: skip


if __name__ == "__main__":
    main()
