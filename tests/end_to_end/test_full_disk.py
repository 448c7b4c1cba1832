"""A disk that fills up costs measurements, which is said at the end; it costs the program nothing."""

from __future__ import annotations

import shutil

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
    ran = runmem(folder, "--python_memory_profile", "--workers=2", "../app.py")
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
    ran = runmem(folder, "--python_memory_profile", "--workers=2", "../app.py")
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "could not be written" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("size", ["64k", "16k"])  # some lines fit; not even the workers' membership fits
def test_on_the_node(tmp_path, runmem, write, file_system, environment, size):
    write(tmp_path, "app.py", PROGRAM)
    spool = file_system(tmp_path / "spool", f"size={size}")
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=2", "app.py", env=environment(TMPDIR=str(spool)))
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "at least" in lost_part(ran.err) or "was not measured" in lost_part(ran.err)
    assert "Killed" not in ran.err
    assert "Traceback" not in ran.err
    assert not [record for record in ran.records if record["status"] == "killed"]
