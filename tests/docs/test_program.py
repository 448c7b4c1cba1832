"""The example of docs/program.md prints the output on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_of_logging_prints_what_the_page_says(tmp_path):
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "docs" / "program.md").read_text(), re.DOTALL)
    (program,) = [text for kind, text in blocks if kind == "python" and "@task" in text]
    (expected,) = [text for kind, text in blocks if not kind]
    (tmp_path / "app.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "runmem", "--workers=1", "app.py"], cwd=tmp_path, capture_output=True, text=True,
        timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.stdout == expected, done.stderr
