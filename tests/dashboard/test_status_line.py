from __future__ import annotations

import io

import pytest

from runmem.dashboard.status_line import StatusLine


class Screen(io.StringIO):
    """A terminal of 80 columns that implements carriage returns and erasures."""

    def lines(self) -> list[str]:
        shown = []
        for line in self.getvalue().split("\n"):
            text = ""
            for part in line.split("\r"):
                erased = part.startswith("\x1b[K")
                part = part.removeprefix("\x1b[K")
                text = part if erased else part + text[len(part) :]
            shown.append(text)
        return shown


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def line(screen) -> StatusLine:
    return StatusLine(screen)


def test_the_newest_text_is_shown_in_place_of_the_older(screen, line):
    line.show("3 done, 10 to do")
    line.show("4 done")
    assert screen.lines() == ["4 done"]


def test_the_same_text_is_not_written_twice(screen, line):
    line.show("4 done")
    before = screen.getvalue()
    line.show("4 done")
    assert screen.getvalue() == before


def test_nothing_is_left_when_hidden(screen, line):
    line.show("4 done")
    line.hide()
    assert screen.lines() == [""]
    before = screen.getvalue()
    line.hide()
    assert screen.getvalue() == before


def test_the_program_s_lines_stand_whole_above_the_line(screen, line):
    out = line.above(screen)
    line.show("a long status line")
    print("one", file=out)
    line.show("a long status line")
    print("two", file=out)
    line.show("last")
    assert screen.lines() == ["one", "two", "last"]


def test_a_line_that_the_program_has_begun_is_not_disturbed(screen, line):
    out = line.above(screen)
    out.write("your name? ")
    line.show("4 done")
    assert screen.lines() == ["your name? "]
    out.write("Ada\n")
    line.show("4 done")
    assert screen.lines() == ["your name? Ada", "4 done"]


def test_a_progress_bar_of_the_program_s_own_is_not_disturbed(screen, line):
    out = line.above(screen)
    for percent in (10, 20):
        out.write(f"\r{percent} %")
        line.show("4 done")
    assert screen.lines() == ["20 %"]


def test_an_empty_text_begins_no_line(screen, line):
    out = line.above(screen)
    out.write("")
    line.show("4 done")
    assert screen.lines() == ["4 done"]


def test_a_line_is_cut_to_the_width_of_the_terminal(screen, line):
    line.show("x" * 200)
    assert screen.lines() == ["x" * 79]


def test_the_stand_in_is_otherwise_the_stream_itself(screen, line):
    out = line.above(screen)
    out.writelines(["a\n", "b\n"])
    out.flush()
    assert out.getvalue() == "a\nb\n"
    assert out.encoding is screen.encoding
    out.mode = "changed"
    assert screen.mode == "changed"
    with pytest.raises(io.UnsupportedOperation):
        out.fileno()


def test_a_terminal_that_is_gone_fails_nobody(screen, line):
    line.show("4 done")
    screen.close()
    line.show("5 done")
    line.hide()
