"""Two runs in one folder at the same time: each has its own records and traces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = """
import sys, time
from runmem import task, wait_on

@task(returns=1)
def take(mib):
    kept = b"x" * (mib << 20)
    time.sleep(1.2)
    return len(kept)

print(wait_on([take(int(sys.argv[1])) for _ in range(2)]))
"""


def test_runs_that_share_a_folder_share_no_file(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], write: Callable[..., Path], runmem: Callable[..., Any]
) -> None:
    write(tmp_path, "app.py", PROGRAM)
    sizes = (20, 400)
    started = [
        start(tmp_path, "--python_memory_profile", "--workers=1", f"--run_folder=runs{mib}", "app.py", str(mib))
        for mib in sizes
    ]
    ended = [process.communicate(timeout=90) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    for mib in sizes:
        run = tmp_path / f"runs{mib}" / "app_01"
        highest = [
            max(float(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("MEM"))
            for path in (run / "traces").glob("[!m]*.dat")
        ] or [0.0]
        assert (max(highest) > 390) == (mib == 400)
        others = list((tmp_path / f"runs{sum(sizes) - mib}").rglob("*.dat"))
        assert others
        assert not any(os.path.samefile(mine, other) for mine in run.rglob("*.dat") for other in others)
        assert runmem(tmp_path, "report", str(run), "--json").code == 0
    masters = list(tmp_path.glob("mprofile_*.dat"))
    assert len(masters) == 2
    assert all(path.stat().st_nlink == 2 for path in masters)
