"""A run in a notebook: what the terminal shows, as HTML, and the figure."""

from __future__ import annotations

import json
from pathlib import Path

from runmem.events import TaskRecord
from runmem.reports.notebook import run_html
from runmem.store.records import record_to_line
from runmem.store.run import read_run

RECORD = TaskRecord(1, "dask", "<lambda>", "", "n1", 7, 8, 1_000.0, end_s=1_001.0, base_bytes=5, peak_bytes=2**20,
                    method="hwm", status="finished", key="<lambda>-1", shared=True)  # fmt: skip


def run_in(folder: Path) -> None:
    (folder / "traces").mkdir()
    (folder / "tasks.jsonl").write_bytes(record_to_line(RECORD))
    (folder / "run.json").write_text(json.dumps({"started_s": 999.0, "ended_s": 1_002.0, "exit_code": 0}))


def test_the_table_is_escaped_and_says_what_shared_peaks_are(tmp_path: Path) -> None:
    run_in(tmp_path)
    html = run_html(read_run(tmp_path))
    assert "&lt;lambda&gt;" in html
    assert "<lambda>" not in html
    assert "For 1 of 1 the worker ran more than the task" in html
    assert "<img" not in html  # there is no trace


def test_the_figure_is_in_the_page(tmp_path: Path) -> None:
    run_in(tmp_path)
    (tmp_path / "traces" / "n1.dat").write_text("CMDLINE app\nMEM 1.000000 1000.0\nMEM 2.000000 1001.0\n")
    assert "data:image/png;base64,iVBOR" in run_html(read_run(tmp_path))
