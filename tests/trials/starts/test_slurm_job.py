"""Starts that are jobs, with shell scripts in the place of Slurm's commands; tests/slurm has a real one."""

from __future__ import annotations

import pytest

from runmem.errors import SettingError
from runmem.trials.starts import starts_named


@pytest.fixture
def slurm(program):
    """Replace the commands of Slurm by scripts, and return a function that replaces sbatch by another one."""
    for name in ("squeue", "scontrol", "scancel", "sinfo"):
        program(name, "exit 1")
    return lambda script: program("sbatch", script)


def test_slurm_without_a_configuration_is_one_clear_line(slurm):
    said = ["error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host", "error: fetch_config: DNS SRV lookup "
            "failed", "error: _establish_config_source: failed to fetch config", "fatal: Could not establish a "
            "configuration source"]  # fmt: skip
    slurm("".join(f"echo 'sbatch: {line}' >&2;" for line in said) + "exit 1")
    with pytest.raises(SettingError, match=r"no configuration of Slurm \(slurm.conf\)") as caught:
        starts_named(["sbatch"])
    assert "\n" not in str(caught.value)
    assert "res_nsearch" not in str(caught.value)


def test_a_refusal_of_slurm_is_reported_in_its_words(slurm):
    slurm("echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1")
    with pytest.raises(SettingError, match="Slurm refuses the job: .*Invalid qos specification"):
        starts_named(["sbatch"])
