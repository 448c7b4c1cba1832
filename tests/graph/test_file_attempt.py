"""A call that runs again finds the files that it found the first time, and changes nothing that others have seen."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from runmem.graph.call import FileUse
from runmem.graph.file_attempt import FileAttempt


class Files:
    """A file of the program, and the folders of its versions."""

    def __init__(self, folder: Path) -> None:
        self.in_place = folder / "data.txt"
        self.kept = folder / "v1" / "data.txt"
        self.version = folder / "v2" / "data.txt"

    def replace(self, text: str) -> None:
        """Let another version come into place, as `FileVersions` does."""
        self.kept.parent.mkdir(exist_ok=True)
        os.link(self.in_place, self.kept)
        new = self.in_place.with_name("new")
        new.write_text(text)
        new.replace(self.in_place)

    def reads(self) -> FileUse:
        return FileUse(str(self.in_place), kept=str(self.kept), places={0: str(self.in_place)})

    def extends(self) -> FileUse:
        return FileUse(str(self.version), True, str(self.in_place), str(self.kept), {0: str(self.version)})

    def makes(self) -> FileUse:
        return FileUse(str(self.version), True, places={0: str(self.version)})

    def makes_in_place(self) -> FileUse:
        return FileUse(str(self.in_place), True, kept=str(self.kept), places={0: str(self.in_place)})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def begin(use: FileUse, kind: type = str) -> tuple[FileAttempt, Any]:
    """Return an attempt, and the path that the task is given."""
    args = [kind(use.places[0])]
    attempt = FileAttempt([use])
    attempt.give_paths(args, {})
    assert type(args[0]) is type(kind("x"))
    return attempt, args[0]


def run(use: FileUse, text: str) -> Path:
    """Let a task add a text to its file; return where."""
    attempt, path = begin(use)
    with open(path, "a") as file:
        file.write(text)
    assert not attempt.was_overtaken()
    attempt.ended()
    return Path(path)


def test_a_reader_gets_the_version_that_was_in_place_at_its_call(files: Files) -> None:
    files.in_place.write_text("0")
    assert begin(files.reads())[1] == str(files.in_place)
    files.replace("1")
    attempt, path = begin(files.reads(), Path)
    assert path == files.kept
    assert path.read_text() == "0"
    assert not attempt.was_overtaken()


def test_a_reader_during_which_another_version_came_has_to_run_once_more(files: Files) -> None:
    files.in_place.write_text("0")
    attempt, _ = begin(files.reads())
    files.replace("1")
    assert attempt.was_overtaken()


def test_a_writer_starts_from_what_it_started_from(files: Files) -> None:
    files.in_place.write_text("0")
    files.in_place.chmod(0o750)
    assert run(files.extends(), "+") == files.version
    assert files.version.read_text() == "0+"
    assert stat.S_IMODE(files.version.stat().st_mode) == 0o750
    files.replace("something else")
    run(files.extends(), "-")
    assert files.version.read_text() == "0-"


@pytest.mark.parametrize("use", ["extends", "makes"])
def test_a_version_is_there_whole_while_it_is_made_again(use: str, files: Files) -> None:
    files.in_place.write_text("0")
    run(getattr(files, use)(), "1")
    before = files.version.read_text()
    attempt, path = begin(getattr(files, use)())
    assert Path(path).name == files.version.name
    with open(path, "a") as file:
        file.write("half")
        file.flush()
        assert files.version.read_text() == before
    attempt.ended()
    assert files.version.read_text() == ("0half" if use == "extends" else "half")
    assert Path(path).read_text() == files.version.read_text(), "a result may name the file"


def test_a_version_that_somebody_has_opened_stays_what_it_is(files: Files) -> None:
    run(files.makes(), "first")
    with files.version.open() as reader:
        run(files.makes(), "second")
        assert reader.read() == "first"
    assert files.version.read_text() == "second"


def test_what_is_in_place_is_not_made_again(files: Files) -> None:
    run(files.makes_in_place(), "1")
    files.in_place.write_text("1 and what the program wrote")
    run(files.makes_in_place(), "1")
    assert files.in_place.read_text() == "1 and what the program wrote"
    files.in_place.unlink()
    run(files.makes_in_place(), "1")
    assert not files.in_place.exists(), "the program has removed it"


def test_what_a_killed_attempt_left_in_place_is_no_part_of_the_next(files: Files) -> None:
    _, path = begin(files.makes_in_place())
    Path(path).write_text("half of it")
    run(files.makes_in_place(), "1")
    assert files.in_place.read_text() == "1"


def test_what_a_killed_attempt_left_apart_is_no_part_of_the_next(files: Files) -> None:
    for _ in range(2):
        _, path = begin(files.makes())
        Path(path).write_text("half of it")
    run(files.makes(), "1")
    assert files.version.read_text() == "1"


def test_files_beside_the_version_and_folders_come_along(files: Files) -> None:
    for text in ("1", "2"):
        attempt, path = begin(files.makes())
        Path(path).mkdir()
        (Path(path) / "part").write_text(text)
        Path(f"{path}.index").write_text(text)
        attempt.ended()
        assert (files.version / "part").read_text() == text
        assert Path(f"{files.version}.index").read_text() == text


def test_a_version_that_is_not_made_this_time_goes(files: Files) -> None:
    run(files.makes(), "1")
    attempt, _ = begin(files.makes())
    attempt.ended()
    assert not files.version.exists()


def test_a_link_that_an_attempt_left_is_not_written_through(files: Files) -> None:
    files.in_place.write_text("0")
    files.version.parent.mkdir()
    files.version.symlink_to(files.in_place)
    run(files.makes(), "1")
    assert files.in_place.read_text() == "0"
    assert not files.version.is_symlink()


def test_each_argument_keeps_the_name_by_which_the_program_calls_the_file(files: Files) -> None:
    files.in_place.write_text("0")
    files.in_place.with_name("alias").symlink_to("data.txt")
    use = FileUse(
        str(files.in_place), kept=str(files.kept),
        places={0: str(files.in_place), "other": str(files.in_place.with_name("alias"))},
    )  # fmt: skip
    files.replace("1")
    args, kwargs = [str(files.in_place)], {"other": files.in_place.with_name("alias")}
    FileAttempt([use]).give_paths(args, kwargs)
    assert [os.path.basename(args[0]), kwargs["other"].name] == ["data.txt", "alias"]
    assert [Path(args[0]).read_text(), kwargs["other"].read_text()] == ["0", "0"]
