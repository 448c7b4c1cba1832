from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from runmem.errors import SettingError
from runmem.formats.mprof_lines import child_line, mem_line
from runmem.reports.figure import _likely_time_s, draw, panel_of_trace, panels_of_run
from runmem.reports.lanes import Bar
from runmem.store.run import read_run
from runmem.units import MIB

START = 1_790_000_000.0


def svg_text(path) -> str:
    """Matplotlib writes each text of an SVG file as a comment beside its outlines."""
    return html.unescape("\n".join(re.findall(r"<!-- (.*?) -->", path.read_text())))


def test_the_figure_shows_node_workers_limit_tasks_and_the_killed_one(write_run, record, killed, tmp_path):
    run = read_run(write_run([record(1), record(2, name="merge"), killed]).root)
    text = svg_text(draw(panels_of_run(run), tmp_path / "run.svg", "wordcount_01", START))
    for label in ("n1: peak >=500.0 MiB, of a worker; the highest task 100.0 MiB (exact, count_words)",
                  "master: peak >=104.0 MiB, the highest reading", "worker 10", "all processes of the workers",
                  "count_words", "merge", "killed", "big", "limit of a worker: 512.0 MiB", "exact peak of a task",
                  "memory (MiB)",                  "time since the start (s)"):  # fmt: skip
        assert label in text


def test_a_task_above_all_readings_is_the_peak_of_its_node(write_run, record, tmp_path):
    text = svg_text(
        draw(panels_of_run(read_run(write_run([record(1, peak_bytes=300 * MIB)]).root)), tmp_path / "a.svg")
    )
    assert "n1: peak >=300.0 MiB, the exact peak of count_words" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shared": True}, "n1: peak >=300.0 MiB, of a worker"),
        ({"recorded_by": "memray"}, "n1: peak >=300.0 MiB, of a worker"),
        ({"peak_bytes": 120 * MIB, "shared": True}, "n1: peak >=170.0 MiB, the highest reading"),
    ],
)
def test_a_peak_that_is_not_the_tasks_own_is_not_called_exact(write_run, record, tmp_path, fields, said):
    run = read_run(write_run([record(1, **{"peak_bytes": 300 * MIB, **fields})]).root)
    text = svg_text(draw(panels_of_run(run), tmp_path / "run.svg"))
    assert said in text
    assert "exact" not in text


def test_the_exact_peak_of_a_task_is_where_its_worker_was_highest(write_run, record) -> None:
    panel = panels_of_run(read_run(write_run([record(1)]).root))[0]  # the worker grows, with a reading each second

    def seconds(worker: str, start_s: float, end_s: float) -> float:
        return _likely_time_s(Bar("f", worker, START + start_s, START + end_s), panel) - START

    assert seconds("worker 10", 0.5, 2.7) == pytest.approx(2.0)
    assert seconds("worker 10", 0.2, 0.6) == pytest.approx(0.4)  # no reading in it
    assert seconds("worker 11", 0.0, 2.0) == pytest.approx(1.0)  # no readings of its worker


def test_a_png_is_a_picture_that_is_not_empty(write_run, record, tmp_path):
    path = draw(panels_of_run(read_run(write_run([record(1)]).root)), tmp_path / "new" / "run.png")
    picture = matplotlib.image.imread(path)
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.02


def test_a_limit_far_above_is_in_the_title_and_not_drawn(write_run, record, tmp_path):
    nodes = {"n1": {"limit_bytes": 8000 * MIB}}
    run = read_run(write_run([record(1, limit_bytes=None)], nodes=nodes).root)
    text = svg_text(draw(panels_of_run(run), tmp_path / "run.svg"))
    assert "; the highest task 100.0 MiB (exact, count_words), limit of a worker 7.8 GiB" in text
    assert "limit of a worker:" not in text


def test_the_fullest_node_is_first_and_the_master_last(write_run, record):
    run = write_run([record(1)])
    (run.traces / "n2.dat").write_bytes(mem_line(999 * MIB, START))
    assert [panel.title for panel in panels_of_run(read_run(run.root))] == ["n2", "n1", "master"]


def test_only_the_fullest_nodes_are_drawn_and_the_figure_says_so(write_run, record, tmp_path):
    run = write_run([record(1)])
    for number in range(10):
        (run.traces / f"m{number}.dat").write_bytes(mem_line((200 + number) * MIB, START))
    text = svg_text(draw(panels_of_run(read_run(run.root)), tmp_path / "run.svg", "run"))
    assert "run (the fullest 6 of 12 traces)" in text
    assert "m9: peak" in text
    assert "m3: peak" not in text


def test_many_workers_are_drawn_and_the_highest_are_named(tmp_path):
    path = tmp_path / "n1.dat"
    lines = [child_line(f"worker-{100 + w}", (10 + w) * MIB, START + t) for t in range(3) for w in range(64)]
    path.write_bytes(b"".join(lines) + mem_line(900 * MIB, START) + mem_line(950 * MIB, START + 2))
    text = svg_text(draw([panel_of_trace(path)], tmp_path / "n1.svg"))
    assert "56 more workers" in text
    assert "worker 163" in text
    assert "worker 155" not in text


def test_a_total_far_above_its_workers_gets_an_axis_of_its_own_and_large_ones_are_in_gib(tmp_path):
    path = tmp_path / "n1.dat"
    path.write_bytes(
        b"".join(mem_line(9000 * MIB, START + t) + child_line("w", 100 * MIB, START + t) for t in range(3))
    )
    text = svg_text(draw([panel_of_trace(path)], tmp_path / "n1.svg"))
    assert "node (GiB)" in text
    assert "workers (MiB)" in text


def test_the_script_of_the_readmes_figure_draws_the_run_it_is_given(write_run, record, tmp_path):
    script = Path(__file__).parents[2] / "plots" / "run_figure.py"
    out = tmp_path / "wordcount.png"
    subprocess.run([sys.executable, script, write_run([record(1)]).root, out], check=True, capture_output=True)
    assert out.read_bytes().startswith(b"\x89PNG")
    failed = subprocess.run([sys.executable, script, tmp_path, out], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "not a run directory" in failed.stderr


def test_a_single_sample_can_be_drawn(tmp_path):
    path = tmp_path / "n1.dat"
    path.write_bytes(mem_line(0, START))
    assert draw([panel_of_trace(path)], tmp_path / "n1.png").stat().st_size > 1000


def test_a_run_without_traces_cannot_be_drawn(write_run, record):
    run = write_run([record(1)])
    for path in run.traces.iterdir():
        path.unlink()
    with pytest.raises(SettingError, match="no trace to draw"):
        panels_of_run(read_run(run.root))


@pytest.mark.parametrize("name", ["run.xyz", "file/run.png"])
def test_a_figure_that_cannot_be_written_names_its_file(tmp_path, name):
    (tmp_path / "file").write_text("")
    path = tmp_path / "n1.dat"
    path.write_bytes(mem_line(MIB, START))
    with pytest.raises(SettingError, match=re.escape(name)):
        draw([panel_of_trace(path)], tmp_path / name)


def test_a_figure_is_written_to_what_is_there(written_kind, make_target, tmp_path):
    trace = tmp_path / "n1.dat"
    trace.write_bytes(mem_line(MIB, START))
    target = make_target(written_kind, tmp_path / "memory.svg")
    draw([panel_of_trace(trace)], target.path)
    target.check()
    if target.keeps_content:
        assert b"</svg>" in target.content()


def test_a_figure_does_not_replace_a_folder_or_device(refused_kind, make_target, tmp_path):
    trace = tmp_path / "n1.dat"
    trace.write_bytes(mem_line(MIB, START))
    target = make_target(refused_kind, tmp_path / "memory.png")
    with pytest.raises(SettingError, match=r"the figure cannot be written to .*memory\.png: .*it is a "):
        draw([panel_of_trace(trace)], target.path)
    target.check()


def test_a_figure_without_an_ending_is_a_png_under_its_own_name(tmp_path):
    trace = tmp_path / "n1.dat"
    trace.write_bytes(mem_line(MIB, START))
    assert draw([panel_of_trace(trace)], tmp_path / "memory").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "n1.dat"]
