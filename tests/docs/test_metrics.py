"""The examples of docs/metrics.md run as they are written, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")


def test_the_examples_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == 8
    names = {"__name__": "metrics_md"}
    for block in found:
        exec(compile(block, "metrics.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "pipe_tasks.IsrMemory: 314572800 byte" in shown
    assert "ambiguous: it matches a:isr.runEndMaxResidentSetSize, b:isr.runEndMaxResidentSetSize" in shown
    assert "demo.PageFaults" in shown
