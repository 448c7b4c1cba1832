from __future__ import annotations

import pytest

from runmem.table import TableColumn, fits, lay_out, numbered_lines, printable

COLUMNS = [TableColumn("Task", flexible=True), TableColumn("Peak", right=True)]


def test_numbers_line_up_at_the_right_and_names_at_the_left():
    assert lay_out(COLUMNS, [["a", "1.0 MiB"], ["longer", "100.0 MiB"]]) == [
        "Task         Peak",
        "a         1.0 MiB",
        "longer  100.0 MiB",
    ]


def test_a_long_name_is_cut_in_the_middle_to_fit_and_numbers_are_whole():
    lines = lay_out(COLUMNS, [["module.function_with_a_long_name", "100.0 MiB"]], width=30)
    assert max(map(len, lines)) <= 30
    assert lines[1].startswith("module")
    assert "name  100.0 MiB" in lines[1]


def test_without_a_width_nothing_is_cut():
    name = "n" * 300
    assert name in lay_out(COLUMNS, [[name, "-"]])[1]


def test_a_table_that_cannot_fit_keeps_its_numbers():
    assert lay_out(COLUMNS, [["n" * 50, "100.0 MiB"]], width=5)[1].endswith("  100.0 MiB")


def test_no_rows_leave_the_titles():
    assert lay_out(COLUMNS, []) == ["Task  Peak"]


def test_a_name_cannot_change_the_terminal():
    assert printable("a\x1b[2Jb\nc\x00") == "a?[2Jb?c?"
    assert "\x1b" not in "".join(lay_out(COLUMNS, [["\x1b[31m", "1"]]))


WIDE = [
    TableColumn("Run", flexible=True),
    TableColumn("Method"),
    TableColumn("Mean", right=True),
    TableColumn("Std dev", right=True),
    TableColumn("Min", right=True),
    TableColumn("Max", right=True),
    TableColumn("n", right=True),
    TableColumn("Note", text=True),
]
ROWS = [
    ["process --id visit=1 ccd=2 of a long command", "tree/rss", "312.6 MiB", "1.2 MiB", "311.0 MiB", "314.1 MiB", "5",
     "trusted; sampled, so that what is shorter than a sample is missed, whatever it is"],
    ["", "cgroup/v2", "402.6 MiB", "1.2 MiB", "401.0 MiB", "404.1 MiB", "5", "-"],
]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("keys", [1, 2])
def test_a_table_fits_and_leaves_nothing_out(width, keys):
    lines = lay_out(WIDE, ROWS, width, keys)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for column in WIDE:
        assert column.title in text
    for word in ("tree/rss", "cgroup/v2", "312.6 MiB", "404.1 MiB", "trusted;", "whatever", "missed,"):
        assert word in text


def test_a_part_of_a_table_that_goes_on_below_says_again_what_its_rows_are():
    lines = lay_out(WIDE, ROWS, 60, keys=2)
    parts = sum(line.startswith("Run ") for line in lines)
    assert parts > 1
    assert sum("tree/rss" in line for line in lines) == parts


def test_each_line_says_of_which_row_it_is():
    lines = numbered_lines(WIDE, ROWS, 60, keys=2)
    assert {number for number, _ in lines} == {None, 0, 1}
    assert all("cgroup/v2" not in line for number, line in lines if number != 1)


def test_a_table_that_has_room_stays_in_one_part():
    assert fits(WIDE, ROWS, 200)
    assert not fits(WIDE, ROWS, 60)
    assert fits(WIDE, ROWS, None)
    assert len(lay_out(WIDE, ROWS, 200)) == 3
