"""`TaskRunner` with what real LSST tasks are made of: configurations of ``lsst.pex.config`` and timed methods."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")

HERE = Path(__file__).parent
PROGRAM = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import lsst.pex.config as pexConfig
from lsst.utils.timer import timeMethod
from runmem.task_runner import CmdLineTask
from timed_tasks import touch

class FillConfig(pexConfig.Config):
    factor = pexConfig.RangeField("what a size is multiplied by", dtype=int, default=1, min=1)
    unit = pexConfig.ChoiceField("of the size", dtype=str, allowed={{"MiB": "of memory"}}, default="MiB")

class FillTask(CmdLineTask):
    ConfigClass = FillConfig
    _DefaultName = "fill"

    def runDataRef(self, ref):
        touch(150)
        self.fill(ref.dataId["mib"] * self.config.factor)

    @timeMethod
    def fill(self, mib):
        touch(mib)

if __name__ == "__main__":
    for found in FillTask.parseAndRun(doReturnResults=True).resultList:
        metadata = found.metadata
        grown = metadata["fillEndMaxResidentSetSize"] - metadata["fillStartMaxResidentSetSize"]
        print(found.dataRef.dataId["mib"], grown / 2**20)
"""


def run(tmp_path, *options):
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "app.py").write_text(textwrap.dedent(PROGRAM))
    return subprocess.run(
        [sys.executable, "app.py", "data", *options], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )


@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
def test_a_real_configuration_travels_to_the_targets_and_their_timed_methods_tell_their_own_peaks(tmp_path, isolation):
    done = run(tmp_path, "--id", "mib=40^10^20", "-j", "2", "-c", "factor=2", *isolation)
    assert done.returncode == 0, done.stderr
    found = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    assert found == [(mib, pytest.approx(2 * mib, abs=1)) for mib in (40, 10, 20)]


def test_a_real_configuration_that_differs_from_the_stored_one_stops_the_run(tmp_path):
    assert run(tmp_path, "--id", "mib=1").returncode == 0
    done = run(tmp_path, "--id", "mib=1", "-c", "factor=3")
    assert done.returncode == 1
    assert "factor" in done.stderr
    assert run(tmp_path, "--id", "mib=1", "-c", "factor=3", "--clobber-config").returncode == 0


def test_a_value_that_a_real_field_does_not_take_is_refused_before_any_work(tmp_path):
    done = run(tmp_path, "--id", "mib=1", "-c", "factor=0")
    assert done.returncode == 2
    assert "factor" in done.stderr
    assert not (tmp_path / "runmem_runs").exists()
