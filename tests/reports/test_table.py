from __future__ import annotations

from runmem.reports.table import Column, lay_out, printable

COLUMNS = [Column("Task", flexible=True), Column("Peak", right=True)]


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
