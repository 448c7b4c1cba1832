from __future__ import annotations

from runmem.trials.starts.contract import JobOptions


def test_the_options_of_a_job_are_those_of_srun_and_sbatch():
    assert JobOptions("debug", ("--mem=2G",)).arguments() == ["--partition=debug", "--mem=2G"]
    assert JobOptions().arguments() == []
