from __future__ import annotations

import pytest

from runmem.clusters.slurm_words import out_of_reach

# What sbatch 22.05 says, whole.
NO_CONFIGURATION = """sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
sbatch: error: fetch_config: DNS SRV lookup failed
sbatch: error: _establish_config_source: failed to fetch config
sbatch: fatal: Could not establish a configuration source
"""
WRONG_PATH = "sbatch: error: s_p_parse_file: cannot stat file /nope: No such file or directory, retrying in 1sec"
NO_CONTROLLER = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"


@pytest.mark.parametrize(
    ("said", "plain"),
    [(NO_CONFIGURATION, "set SLURM_CONF"), (WRONG_PATH, "set SLURM_CONF"), (NO_CONTROLLER, "`scontrol ping`")],
)
def test_what_is_wrong_with_slurm_itself_is_one_plain_line(said, plain):
    assert plain in out_of_reach(said)
    assert "\n" not in out_of_reach(said)


def test_a_refused_job_is_not_taken_for_that():
    assert out_of_reach("sbatch: error: invalid partition specified: nope") is None
