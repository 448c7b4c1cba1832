"""The beginning of a file is given back to the file system, and nothing else changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runmem.store.freeing import free_beginning

SIZE = 64 * 4096
DATA = bytes(range(1, 256)) * (SIZE // 255) + b"x" * (SIZE % 255)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file on a file system that has holes."""
    path = tmp_path / "lines"
    path.write_bytes(DATA)
    try:
        free_beginning(path, 4096)
    except OSError as error:
        pytest.skip(f"nothing can be freed here: {error}")
    path.write_bytes(DATA)
    return path


def test_blocks_are_free_and_what_is_kept_stays_in_its_place(file: Path) -> None:
    before = file.stat().st_blocks
    free_beginning(file, 40 * 4096 + 17, begin=100)
    assert file.stat().st_blocks == before - 39 * 8
    assert file.read_bytes() == DATA[:4096] + bytes(39 * 4096) + DATA[40 * 4096 :]


def test_a_writer_appends_at_the_end(file: Path) -> None:
    with file.open("ab", buffering=0) as writer:
        free_beginning(file, SIZE)
        writer.write(b"next\n")
    assert file.stat().st_size == SIZE + 5
    assert file.read_bytes() == bytes(SIZE) + b"next\n"


def test_less_than_a_block_is_kept(file: Path) -> None:
    free_beginning(file, 8191, begin=1)
    assert file.read_bytes() == DATA


def test_a_missing_or_special_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        free_beginning(tmp_path / "none", 8192)
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match=r"Illegal seek|not supported|No such device|Permission"):
            free_beginning(Path(f"/dev/fd/{write}"), 8192)
    finally:
        os.close(read)
        os.close(write)
