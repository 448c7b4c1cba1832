from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from runmem.errors import SettingError
from runmem.store.layout import RunDirectory, Spool, safe_name


@pytest.mark.parametrize(
    ("text", "expected"), [("a b/c", "a_b_c"), ("", "_"), ("f.<lambda>", "f._lambda_"), ("näme-1.2+3", "näme-1.2+3")]
)
def test_a_safe_name_has_no_space_and_no_slash(text: str, expected: str) -> None:
    assert safe_name(text) == expected


def test_runs_are_numbered(tmp_path: Path) -> None:
    names = [RunDirectory.create("app", tmp_path / "runs").root.name for _ in range(2)]
    assert names == ["app_01", "app_02"]
    assert RunDirectory.create("app.b", tmp_path / "runs").root.name == "app.b_01"


def test_numbers_of_runs_that_were_deleted_are_not_used_again(tmp_path: Path) -> None:
    (tmp_path / "app_07").mkdir()
    (tmp_path / "app_x").mkdir()
    (tmp_path / "app_100").mkdir()
    assert RunDirectory.create("app", tmp_path).root.name == "app_101"


def test_the_folder_of_the_runs_is_removed_with_the_last_run(tmp_path: Path) -> None:
    first, second = (RunDirectory.create("app", tmp_path / "runs") for _ in range(2))
    first.remove()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["app_02"]
    second.remove()
    assert not (tmp_path / "runs").exists()
    assert RunDirectory.create("app", tmp_path / "runs").root.name == "app_01"


def test_a_run_directory_has_its_folders(tmp_path: Path) -> None:
    run = RunDirectory.create("app", tmp_path)
    assert run.traces.is_dir()
    assert run.profiles.is_dir()
    assert run.replicas.is_dir()


def test_traces_lie_where_people_find_them_and_other_copies_by_node(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.replica("node 1", "n.dat") == tmp_path / "traces" / "n.dat"
    assert run.replica("node 1", "tasks-1.jsonl") == tmp_path / "replica" / "node_1" / "tasks-1.jsonl"


def test_a_base_that_is_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"cannot be made in .*file.* --run_folder"):
        RunDirectory.create("app", tmp_path / "file")


@pytest.fixture
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_for_all_stays_that(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    spool = Spool(shared / "spool")
    spool.make()
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert spool.root.stat().st_mode & 0o777 == 0o700


def test_a_spool_is_private(own_temporary_folder: Path) -> None:
    spool = Spool.of_run("run-1")
    spool.make()
    spool.make()
    assert spool.root.is_relative_to(own_temporary_folder)
    for folder in (spool.root.parent, spool.root, spool.members):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_spool_below_another_users_folder_is_refused(own_temporary_folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("giving a folder to another user needs root")
    parent = Spool.of_run("run-1").root.parent
    parent.mkdir()
    os.chown(parent, 65534, 65534)
    with pytest.raises(SettingError, match=r"belongs to another user; set TMPDIR"):
        Spool.of_run("run-1").make()


def test_a_spool_that_cannot_be_made_is_refused_with_what_to_do(own_temporary_folder: Path) -> None:
    Spool.of_run("run-1").root.parent.write_text("in the way")
    with pytest.raises(SettingError, match=r"spool folder .* cannot be made.* Set TMPDIR"):
        Spool.of_run("run-1").make()


@pytest.mark.parametrize("letter", ["f", "é", "漢", "\U0001f600"])
def test_long_names_with_equal_beginnings_are_shortened_differently(letter: str) -> None:
    names = {safe_name(letter * 300 + end) for end in ("", "a", "b")}
    assert len(names) == 3
    for name in names:
        assert len(f"{name}_01.jsonl".encode()) <= 255
        assert name.startswith(letter.replace("\U0001f600", "_") * 40)
    assert safe_name("f" * 200) == "f" * 200
