"""A run directory that goes, fills up or can be read only while a program runs costs measurements, and nothing else."""

from __future__ import annotations

import shutil
import subprocess

import pytest

PROGRAM = """
import os, shutil, subprocess, sys
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def square(x):
    return x * x

folder = os.getcwd()
print(sum(wait_on([square(i) for i in range(300)])), flush=True)
{happens}
print(wait_on(square(7)))
sys.exit(4)
"""
RESULT = f"{sum(i * i for i in range(300))}\n49\n"

HAPPENS = {
    "the run directories are removed": "shutil.rmtree('runmem_runs')",
    "a file is in the place of the run directory": "shutil.rmtree('runmem_runs'); Path('runmem_runs').touch()",
    "the folders in it are files": (
        "for path in Path('runmem_runs').glob('*/*'):\n"
        "    if path.is_dir():\n        shutil.rmtree(path)\n        path.touch()"
    ),
    "the trace folder is a file": "shutil.rmtree('traces'); Path('traces').touch()",
}


@pytest.mark.parametrize("happens", HAPPENS)
def test_the_program_ends_well_and_the_loss_is_said(tmp_path, runmem, write, happens):
    write(tmp_path, "app.py", PROGRAM.replace("{happens}", HAPPENS[happens]))
    ran = runmem(
        tmp_path, "--python_memory_profile", "--workers=1", f"--worker_profile_path={tmp_path / 'traces'}", "app.py"
    )
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "Traceback" not in ran.err
    assert "Lost or unreadable" in ran.err or "could not be" in ran.err, ran.err


@pytest.mark.parametrize("how", ["fills up", "can be read only", "is taken away"])
def test_a_file_system_that_goes(tmp_path, runmem, write, file_system, request, how):
    folder = file_system(tmp_path / "small", "size=3m")
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(folder)], capture_output=True))  # what lies above
    happens = {
        "fills up": "try:\n    Path('filler').write_bytes(bytes(10**7))\nexcept OSError:\n    pass",
        "can be read only": "subprocess.run(f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}', "
        "shell=True, check=True)",
        "is taken away": "subprocess.run(['umount', '-l', folder], check=True)",
    }[how]
    write(folder, "app.py", PROGRAM.replace("{happens}", happens))
    ran = runmem(folder, "--python_memory_profile", "--workers=1", "app.py")
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "Traceback" not in ran.err
    if how == "can be read only":
        assert "run.json could not be written" in ran.err


def test_the_temporary_folder_fills_up(tmp_path, runmem, write, file_system, environment):
    spool = file_system(tmp_path / "spool", "size=1m")
    filler = "Path(os.environ['TMPDIR'], 'filler')"
    happens = f"try:\n    {filler}.write_bytes(bytes(10**7))\nexcept OSError:\n    pass"
    write(tmp_path, "app.py", PROGRAM.replace("{happens}", happens))
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=1", "app.py", env=environment(TMPDIR=str(spool)))
    assert (ran.code, ran.out) == (4, RESULT), ran.err
    assert "Traceback" not in ran.err
    assert [path.name for path in spool.iterdir() if path.name.startswith("runmem-dask-")] == []
    assert list(spool.glob("runmem-*/*")) == []
    for record in ran.records:  # the line of an end may be lost while that of its begin had room
        assert record["status"] == "finished" or "the line that reports it was lost" in record["reason"], record
    assert shutil.disk_usage(spool).free < 1024**2
