"""The examples of docs/metric_jobs.md run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

from runmem.metrics.config_file import read_metric_tasks

TEXT = (Path(__file__).parents[2] / "docs" / "metric_jobs.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks("python")
    assert len(found) == 2
    for block in found:
        exec(compile(block, "metric_jobs.md", "exec"), {})
    assert "passed  demo.CountWordsMemory.less_than" in capsys.readouterr().out


def test_the_configuration_is_read(tmp_path):
    (text,) = blocks("yaml")
    (tmp_path / "metrics.yaml").write_text(text)
    targets = [task.config.target for task in read_metric_tasks(tmp_path / "metrics.yaml")]
    assert targets == ["wordcount.count_words", "wordcount.merge_counts"]
