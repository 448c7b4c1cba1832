"""A disk that fills up costs measurements, which is said at the end; it costs the program nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from runmem import task, wait_on

@task(returns=1)
def square(x):
    return x * x

if __name__ == "__main__":
    print(sum(wait_on([square(i) for i in range(1500)])))
    sys.exit(4)
"""
RESULT = f"{sum(i * i for i in range(1500))}\n"


def lost_part(err: str) -> str:
    assert "Lost or unreadable\n" in err, err
    return err.partition("Lost or unreadable\n")[2].partition("\n\n")[0]


def test_on_the_master(tmp_path, runmem, write, file_system):
    write(tmp_path, "app.py", PROGRAM)
    folder = file_system(tmp_path / "small", "size=200k")
    ran = runmem(folder, "--python_memory_profile", "--workers=1", "../app.py")
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert f"{folder}/runmem_runs/app_01" in lost_part(ran.err)
    assert "could not be written (disk full?)" in lost_part(ran.err)
    report = runmem(folder, "report")
    assert report.code == 0, report.err
    assert "Traceback" not in ran.err + report.err


def test_on_the_master_from_the_beginning(tmp_path, runmem, write, file_system):
    write(tmp_path, "app.py", PROGRAM)
    folder = file_system(tmp_path / "small", "size=200k")
    with pytest.raises(OSError, match="No space left"):
        (folder / "filler").write_bytes(bytes(1024**2))
    assert shutil.disk_usage(folder).free == 0
    ran = runmem(folder, "--python_memory_profile", "--workers=1", "../app.py")
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "could not be written" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("size", ["64k", "16k"])  # some lines fit; not even the workers' membership fits
def test_on_the_node(tmp_path, runmem, write, file_system, environment, size):
    write(tmp_path, "app.py", PROGRAM)
    spool = file_system(tmp_path / "spool", f"size={size}")
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=1", "app.py", env=environment(TMPDIR=str(spool)))
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "at least" in lost_part(ran.err) or "was not measured" in lost_part(ran.err)
    assert "Killed" not in ran.err
    assert "Traceback" not in ran.err
    assert not [record for record in ran.records if record["status"] == "killed"]


PRINTING = """
import sys
from runmem import task, wait_on

@task(returns=1)
def talk(x):
    print("o" * 20_000, flush=True)
    print("e" * 20_000, file=sys.stderr)
    sys.stdout.buffer.write(b"b" * 20_000)
    return x

if __name__ == "__main__":
    total = sum(wait_on([talk(i) for i in range(10)]))
    open("total", "w").write(str(total))
"""


@pytest.mark.parametrize("options", [["--python_memory_profile"], []], ids=["measured", "not measured"])
def test_a_log_that_is_full_fails_no_task(tmp_path, write, environment, file_system, options):
    write(tmp_path, "app.py", PRINTING)
    folder = file_system(tmp_path / "small", "size=64k")
    command = [sys.executable, "-m", "runmem", *options, "--workers=1", "app.py"]
    with open(folder / "log", "w") as log, open(tmp_path / "errors", "w") as errors:
        done = subprocess.run(command, cwd=tmp_path, env=environment(), stdout=log, stderr=errors, timeout=90)
    assert (done.returncode, (tmp_path / "total").read_text()) == (0, "45")
    err = (tmp_path / "errors").read_text()
    assert err.count("bytes that tasks printed could not be written (No space left on device)") == 1
    told = json.loads(next((tmp_path / "runmem_runs").glob("*/run.json")).read_text())
    lost = int(re.match(r"at least ([0-9,]+) bytes", told["lost_output"])[1].replace(",", ""))
    assert 200_000 < lost <= 10 * 40_000 + 10  # all but what had room, and what came since it was told
    assert told["records_complete"] is bool(options)
