"""What programs and commands write goes where it is told to: through devices, pipes and links, and nowhere else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

TASKS = """
import os
from runmem import FILE_IN, FILE_INOUT, FILE_OUT, open_file, task, wait_on, wait_on_file

@task(path=FILE_OUT)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)

@task(path=FILE_INOUT)
def extend(path, text):
    with open(path, "a") as file:
        file.write(text)

@task(path=FILE_IN, returns=1)
def read(path):
    with open(path) as file:
        return os.path.basename(path), file.read()
"""

SINK = """
for number in range(20):
    write("null", str(number))
extend("null", "more")
wait_on_file("null")
print(read("null") and "read")
write("way to null", "x")
"""

PIPE = """
write("pipe", "through the pipe\\n")
wait_on_file("pipe")
print("written")
"""

LINKS = """
extend("latest.txt", "2")
extend("data/./2026.txt", "3")
print(wait_on(read("latest.txt")), wait_on(read("way/2026.txt")))
write("later.txt", "new")
extend("way/new.txt", "er")
print(wait_on(read("later.txt")))
with open_file("latest.txt", "a") as file:
    file.write("4")
"""

MODES = """
extend("private", "1")
write("private", "2")
extend("private", "3")
write("script", "true")
write("fresh", "x")
write("fresh", "y")
"""

TWO_RUNS = """
extend("a", "1")
wait_on_file("a")
with open_file("a", "a") as file:
    file.write("2")
"""

REFUSED = """
write("folder", "x")
"""

MISPLACED = """
from runmem import barrier
extend("a", "1")
barrier()
os.unlink("a")
os.mkdir("a")
"""


def make_null(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError as error:
        pytest.skip(f"making a device is not allowed here: {error}")


def both(folder, runmem, write, environment, program):
    """Run a program by plain Python in one folder and by runmem in another, each made by `folder`; return both."""
    plain, run = folder("plain"), folder("run")
    for place in (plain, run):
        write(place, "app.py", TASKS + program)
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=plain, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    ran = runmem(run, "--workers=1", "--no_summary", "app.py")
    assert (ran.code, ran.out) == (0, done.stdout), ran.err
    return plain, run


def state_of(folder: Path) -> dict[str, tuple[int, int, str | None]]:
    """Return mode, owner, and content or the end of the link, of each file that the program may have written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "runmem_runs" in path.parts or path.is_dir():
            continue
        status = path.lstat()
        text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else None
        found[str(path.relative_to(folder))] = status.st_mode, status.st_uid, text
    return found


def test_tasks_write_through_a_device(runmem, write, environment, tmp_path):
    def folder(name):
        made = tmp_path / name
        made.mkdir()
        make_null(made / "null")
        (made / "way to null").symlink_to("null")
        return made

    plain, run = both(folder, runmem, write, environment, SINK)
    assert state_of(run) == state_of(plain)
    assert not list(run.glob("runmem_runs/*/files"))


def test_a_task_writes_through_a_pipe(runmem, write, tmp_path):
    write(tmp_path, "app.py", TASKS + PIPE)
    os.mkfifo(tmp_path / "pipe")
    seen = []
    reader = threading.Thread(target=lambda: seen.append((tmp_path / "pipe").read_text()))
    reader.start()
    ran = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert (ran.code, ran.out) == (0, "written\n"), ran.err
    reader.join(60)
    assert seen == ["through the pipe\n"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_links_stay_and_lead_to_what_tasks_wrote(runmem, write, environment, tmp_path):
    def folder(name):
        made = tmp_path / name
        (made / "data").mkdir(parents=True)
        (made / "data" / "2026.txt").write_text("1")
        (made / "way").symlink_to("data")
        (made / "latest.txt").symlink_to("way/2026.txt")
        (made / "later.txt").symlink_to("data/new.txt")
        return made

    plain, run = both(folder, runmem, write, environment, LINKS)
    assert state_of(run) == state_of(plain)
    assert (run / "data" / "2026.txt").read_text() == "1234"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_and_owners_are_those_of_plain_python(umask, runmem, write, environment, tmp_path):
    def folder(name):
        made = tmp_path / name
        made.mkdir()
        for file, mode in (("private", 0o600), ("script", 0o755)):
            (made / file).write_text("0")
            if os.getuid() == 0:
                os.chown(made / file, 1234, 1234)
            (made / file).chmod(mode)
        return made

    before = os.umask(umask)
    try:
        plain, run = both(folder, runmem, write, environment, MODES)
    finally:
        os.umask(before)
    assert state_of(run) == state_of(plain)


def test_a_file_that_two_runs_wrote_has_what_both_wrote_and_leaves_no_versions(runmem, write, tmp_path):
    write(tmp_path, "app.py", TASKS + TWO_RUNS)
    (tmp_path / "a").write_text("0")
    for _ in range(2):
        ran = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
        assert ran.code == 0, ran.err
        assert not (ran.runs[-1] / "files").exists()
    assert (tmp_path / "a").read_text() == "01212"


def test_a_task_that_would_write_a_folder_is_refused_at_the_call(runmem, write, tmp_path):
    write(tmp_path, "app.py", TASKS + REFUSED)
    (tmp_path / "folder").mkdir()
    ran = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert ran.code == 1
    assert (
        "write: parameter 'path' is declared FILE_OUT, so the task writes a file, and 'folder' is a folder" in ran.err
    )
    assert 'write("folder", "x")' in ran.err


def test_a_version_that_finds_no_place_is_told_at_the_end(runmem, write, tmp_path):
    write(tmp_path, "app.py", TASKS + MISPLACED)
    (tmp_path / "a").write_text("0")
    ran = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert ran.code == 1
    (version,) = tmp_path.glob("runmem_runs/app_01/files/*/a")
    assert f"{tmp_path}/a cannot be replaced by its new version: it is a folder. Copy it from {version}." in ran.err
    assert "runmem: a file is not in its place:" in ran.err
    assert "a task failed" not in ran.err
    assert version.read_text() == "01"
    assert ran.provenance["exit_code"] == 1


@pytest.fixture(scope="module")
def measured(module_folder, runmem, write):
    """Run a program with measurements."""
    write(module_folder, "app.py", TASKS + 'write("a", "x")\n')
    ran = runmem(module_folder, "--workers=1", "--python_memory_profile", "app.py")
    assert ran.code == 0, ran.err
    return ran


def test_metrics_are_written_through_a_device_and_to_standard_output(measured, runmem):
    run = str(measured.runs[-1])
    null = measured.folder / "null"
    make_null(null)
    before = null.stat()
    done = runmem(measured.folder, "metric", run, "--output", "null")
    assert done.code == 0, done.err
    after = null.stat()
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)
    done = runmem(measured.folder, "metric", run, "--output", "/dev/stdout")
    document, _, table = done.out.partition("\n}\n")
    assert json.loads(document + "\n}")["measurements"]
    assert "app.WriteMemory" in table


def test_metrics_replace_what_a_link_leads_to(measured, runmem):
    elsewhere, link = measured.folder / "elsewhere.json", measured.folder / "link.json"
    elsewhere.write_text("old")
    elsewhere.chmod(0o640)
    link.symlink_to(elsewhere)
    done = runmem(measured.folder, "metric", str(measured.runs[-1]), "--output", "link.json")
    assert done.code == 0, done.err
    assert link.is_symlink()
    assert json.loads(elsewhere.read_text())["measurements"]
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o640


def test_traces_do_not_replace_what_is_no_file(measured, runmem):
    (node,) = [path.name for path in measured.runs[-1].glob("traces/*.dat") if not path.name.startswith("mprofile_")]
    folder = measured.folder / "other"
    folder.mkdir()
    os.mkfifo(folder / node)
    ran = runmem(folder, "--workers=1", "--python_memory_profile", "../app.py")
    assert ran.code == 0, ran.err
    assert stat.S_ISFIFO((folder / node).stat().st_mode)
    assert f"{folder / node}: the trace could not be copied here: it is a pipe" in ran.err
    assert list(folder.glob(f"runmem_runs/*/traces/{node}"))
