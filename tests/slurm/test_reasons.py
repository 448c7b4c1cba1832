"""Explanations of Slurm's terms, tested without Slurm. The fields are those of real jobs on 22.05."""

from __future__ import annotations

import pytest

from runmem.slurm.reasons import WAITING, exit_code, explain_reason, fault_in_slurm, has_ended, state_name

# What sbatch 22.05 says, whole.
NO_CONFIGURATION = """sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
sbatch: error: fetch_config: DNS SRV lookup failed
sbatch: error: _establish_config_source: failed to fetch config
sbatch: fatal: Could not establish a configuration source
"""
WRONG_PATH = "sbatch: error: s_p_parse_file: cannot stat file /nope: No such file or directory, retrying in 1sec"
NO_CONTROLLER = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"

# Each state of the manual pages of sacct and squeue to the exit code of a job that nothing else is known of.
ENDED = {
    "COMPLETED": 0, "BOOT_FAIL": 1, "CANCELLED": 143, "DEADLINE": 143, "FAILED": 1, "NODE_FAIL": 1,
    "OUT_OF_MEMORY": 137, "PREEMPTED": 143, "REVOKED": 1, "TIMEOUT": 143,
}  # fmt: skip
NOT_STARTED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
GOING = {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
UNKNOWN = {"MELTED", "ENDED_SOMEHOW"}
ENDED_OR_UNKNOWN = sorted({*ENDED, *UNKNOWN})


@pytest.mark.parametrize(
    ("message", "fault"),
    [(NO_CONFIGURATION, "set SLURM_CONF"), (WRONG_PATH, "set SLURM_CONF"), (NO_CONTROLLER, "`scontrol ping`")],
)
def test_what_is_wrong_with_slurm_itself_is_one_plain_line(message, fault):
    assert fault in fault_in_slurm(message)
    assert "\n" not in fault_in_slurm(message)


def test_a_refused_job_is_not_taken_for_that():
    assert fault_in_slurm("sbatch: error: invalid partition specified: nope") is None


@pytest.mark.parametrize(
    ("text", "state"),
    [("COMPLETED", "COMPLETED"), ("CANCELLED by 1234", "CANCELLED"), ("CANCELLED+", "CANCELLED"),
     (" FAILED ", "FAILED"), ("", ""), ("  ", "")],
)  # fmt: skip
def test_a_state_is_taken_out_of_what_sacct_writes_around_it(text, state):
    assert state_name(text) == state


@pytest.mark.parametrize("state", sorted(NOT_STARTED | GOING))
@pytest.mark.parametrize("field", ["0:0", "1:0", "0:9", ""])
def test_a_job_that_has_not_ended_has_no_exit_code(state, field):
    assert not has_ended(state)
    assert (state in WAITING) == (state in NOT_STARTED)
    assert exit_code(state, field) is None


@pytest.mark.parametrize("state", ENDED_OR_UNKNOWN)
@pytest.mark.parametrize("field", ["0:0", "", "0", ":", "0:125", "0:127", " 0:0 "])
def test_where_slurm_names_neither_code_nor_signal_the_state_decides(state, field):
    assert has_ended(state)
    assert state not in WAITING
    assert exit_code(state, field) == ENDED.get(state, 1)


@pytest.mark.parametrize("state", ENDED_OR_UNKNOWN)
@pytest.mark.parametrize(("field", "code"), [("0:1", 129), ("0:9", 137), ("0:11", 139), ("0:15", 143), ("1:9", 137),
                                             ("0:64", 192)])  # fmt: skip
def test_a_signal_that_ended_the_program_is_told_as_a_shell_does(state, field, code):
    assert exit_code(state, field) == code


@pytest.mark.parametrize("state", ENDED_OR_UNKNOWN)
@pytest.mark.parametrize(("field", "code"), [("1:0", 1), ("9:0", 9), ("143:0", 143), ("255:0", 255), ("3:125", 3),
                                             ("7", 7)])  # fmt: skip
def test_a_program_that_ended_by_itself_keeps_its_code_in_every_state(state, field, code):
    assert exit_code(state, field) == code


@pytest.mark.parametrize("state", [state for state in ENDED_OR_UNKNOWN if state != "COMPLETED"])
def test_no_job_that_did_not_complete_has_exit_code_0(state):
    fields = [f"{code}:{signal}" for code in range(256) for signal in range(128)]
    assert [field for field in fields if not 0 < exit_code(state, field) < 256] == []


@pytest.mark.parametrize(
    ("state", "field", "code"),
    [
        ("CANCELLED by 0", "0:0", 143),  # scancel in the queue, or the program then ended with 0
        ("CANCELLED by 1234", "0:15", 143),
        ("CANCELLED by 1234", "1:0", 1),  # the program handled SIGTERM
        ("OUT_OF_MEMORY", "0:125", 137),
        ("REVOKED", "0:0", 1),
    ],
)
def test_the_cases_in_which_two_commands_once_gave_two_answers(state, field, code):
    assert exit_code(state, field) == code


def test_a_reason_is_explained_and_one_that_is_not_known_stays():
    assert explain_reason("BeginTime") == "BeginTime: its begin time has not been reached"
    assert explain_reason("QOSMaxCpuPerUserLimit").startswith("QOSMaxCpuPerUserLimit: a limit of the site")
    assert explain_reason("Moonshine") == "Moonshine"
