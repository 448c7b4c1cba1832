"""Runs many programs one after the other, each as `__main__`; itself a program for `runmem`.

Its arguments: a JSON file with the sources, ``bundled`` or ``single``, and during each how many-th of them a worker
is killed (0: none).
"""

from __future__ import annotations

import json
import linecache
import random
import shutil
import signal
import sys
import tempfile
import threading
import types
from pathlib import Path

import psutil

from runmem import barrier
from runmem.execution import bundle
from runmem.graph.current import current_program

SPEC = sys.modules["__main__"].__spec__


def kill_a_worker(choose: random.Random, killed: list[int]) -> None:
    """Kill a worker process at random."""
    found = psutil.Process().children(recursive=True)
    for process in choose.sample(found, len(found)):
        try:
            command = " ".join(process.cmdline())
            if "spawn_main" in command and "resource_tracker" not in command:
                process.send_signal(signal.SIGKILL)
                killed.append(process.pid)
                return
        except psutil.Error:
            continue


def run(number: int, source: str) -> None:
    """Run one program; print what it prints, and how it ended."""
    print(f"=== program {number}")
    name = f"program{number}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module = types.ModuleType("__main__")
    # As `runmem` has it: workers that start later take it from there what they are to import.
    module.__dict__.update(__file__=name, __spec__=SPEC)
    sys.modules["__main__"] = module
    ended = "to its end"
    folder = tempfile.mkdtemp(dir=".")
    vars(module)["folder"] = folder
    try:
        exec(compile(source, name, "exec"), vars(module))
    except SystemExit as end:
        ended = f"with {end.code}"
    except Exception as error:
        ended = f"by {type(error).__name__}: {error}"
    unseen = 0
    while True:
        try:
            barrier()
            break
        except Exception:
            unseen += 1
    current_program().place_all_files()
    shutil.rmtree(folder)
    print(f"=== {ended}, with {unseen} errors that it has not seen")


def main() -> None:
    sources = json.loads(Path(sys.argv[1]).read_text())
    if sys.argv[2] == "single":
        bundle.MOST_CALLS = 1  # no two calls share a Dask task
    every, choose, killed = int(sys.argv[3]), random.Random(1), list[int]()
    for number, source in enumerate(sources):
        if every and number % every == every - 1:
            threading.Timer(choose.uniform(0, 0.1), kill_a_worker, (choose, killed)).start()
        run(number, source)
    Path("killed.json").write_text(json.dumps(killed))


if __name__ == "__main__":
    main()
