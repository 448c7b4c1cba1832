"""Configurations of metric tasks in YAML files: what is read is used, or refused or reported."""

from __future__ import annotations

import logging

import pytest

from runmem.errors import SettingError
from runmem.metrics.config_file import read_metric_tasks

VALUES = "connections: {package: p, metric: M, labelName: isr}, target: isr.run"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{{{VALUES}, connections.package: q}}", "metric 1: connections.package is given twice"),
        ("target: a\ntarget: b\n", "'target' is there twice, in line 2"),
        (
            "tasks: {memory: lsst.verify.tasks.MemoryMetricTask}",
            "memory: lsst.verify.tasks.MemoryMetricTask has no config",
        ),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path, text, message):
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=f"metrics\\.yaml.*{message}"):
        read_metric_tasks(path)


def test_what_is_not_read_of_a_pipeline_is_reported(tmp_path, caplog):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "imports: [other.yaml]\ninstrument: lsst.Cam\n"
        f"tasks:\n  isr: lsst.ip.isr.IsrTask\n  memory: {{class: MemoryMetricTask, config: {{{VALUES}}}}}\n"
    )
    with caplog.at_level(logging.WARNING):
        (task,) = read_metric_tasks(path)
    assert task.config.target == "isr.run"
    assert "pipeline.yaml: only the tasks are read, not: imports" in caplog.text
