"""Explains Slurm's reasons, states and exit codes, and its messages about faults of Slurm itself.

Reasons are those of squeue(1), section JOB REASON CODES; states those of the sections JOB STATE CODES of sacct(1) and
squeue(1), and the temporary ones added by versions up to 25.05.
"""

from __future__ import annotations

__all__ = ["NEVER_STARTING", "WAITING", "exit_code", "explain_reason", "fault_in_slurm", "has_ended", "state_name"]

NEVER_STARTING = {
    "DependencyNeverSatisfied": "the job it depends on did not end as required",
    "BadConstraints": "no node has the features of --constraints",
    "PartitionNodeLimit": "the queue allows a job fewer nodes: lower --num_nodes or choose another --queue",
    "PartitionTimeLimit": "the queue allows a job less time: lower --exec_time or choose another --queue",
    "PartitionConfig": "the queue does not allow so many nodes or cores, or so much memory or time",
    "AccountNotAllowed": "the queue is not open to this --project_name",
    "QOSNotAllowed": "the queue is not open to this --qos",
    "InvalidAccount": "the project (--project_name) is not valid",
    "InvalidQOS": "the quality of service (--qos) is not valid",
    "ReservationDeleted": "the reservation is gone",
}
_TEMPORARY = {
    "None": "the scheduler has not looked at it yet",
    "Resources": "nodes, cores or memory that it needs are in use",
    "Priority": "jobs of a higher priority come first",
    "Dependency": "it waits for the job it depends on",
    "BeginTime": "its begin time has not been reached",
    "JobHeldUser": "it is held: `scontrol release` releases it",
    "JobHeldAdmin": "an administrator holds it",
    "PartitionDown": "the queue is down",
    "PartitionInactive": "the queue is not active",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions":
        "nodes that it needs are down, drained or reserved",
    "Reservation": "its reservation has not begun",
    "Licenses": "it waits for a licence",
    "launch_failed_requeued_held": "its start failed and it is held: ask the administrators",
}  # fmt: skip
_FAULTS = {
    ("Could not establish a configuration source", "failed to fetch config", "Unable to process configuration file",
     "cannot stat file"):
        "Slurm's commands are installed here, but this machine has no configuration of Slurm (slurm.conf): use a login "
        "node of the cluster, or set SLURM_CONF to its slurm.conf",
    ("Unable to contact slurm controller", "Connection refused", "Connection timed out"):
        "Slurm's controller (slurmctld) does not answer: `scontrol ping` shows whether it is up, and slurm.conf where "
        "it should be",
    ("munge", "Munge"):
        "Slurm's authentication (munge) does not work on this machine: `munge -n | unmunge` shows why",
}  # fmt: skip

WAITING = {
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "EXPEDITING",
    "POWER_UP_NODE",
}  # fmt: skip
_GOING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "UPDATE_DB"}
# Exit codes of jobs without a more precise one: 128 + SIGTERM, 128 + SIGKILL; 1 for all other states.
_CODES = {"COMPLETED": 0, "CANCELLED": 143, "TIMEOUT": 143, "DEADLINE": 143, "PREEMPTED": 143, "OUT_OF_MEMORY": 137}


def explain_reason(reason: str) -> str:
    """Append an explanation to Slurm's reason, if there is one.

    Limits of the site are ``QOSMax...``, ``QOSGrp...``, ``AssocMax...``, ``AssocGrp...`` and ``MaxJobs...``.
    """
    meaning = NEVER_STARTING.get(reason) or _TEMPORARY.get(reason)
    if meaning is None and reason.startswith(("QOSMax", "QOSGrp", "Assoc", "MaxJobs", "MaxCpu", "MaxNode")):
        meaning = "a limit of the site on what you, the project or the quality of service may use at once"
    return reason if meaning is None else f"{reason}: {meaning}"


def fault_in_slurm(message: str) -> str | None:
    """Return the fault of Slurm itself that a command's message reports; None for other messages."""
    return next((fault for parts, fault in _FAULTS.items() if any(part in message for part in parts)), None)


def state_name(text: str) -> str:
    """Return the state in a field with more text (``CANCELLED by 1234``) or a truncated one (``CANCELLED+``)."""
    return text.split()[0].rstrip("+") if text.strip() else ""


def has_ended(state: str) -> bool:
    """Return True if a job in this state has ended.

    An unknown state counts as an end, so that nobody waits forever: so did all states that Slurm has added for whole
    jobs (PREEMPTED, BOOT_FAIL, DEADLINE, OUT_OF_MEMORY).
    """
    return state not in WAITING and state not in _GOING


def exit_code(state: str, field: str) -> int | None:
    """Return a shell's exit code for a job, from its state and the field ExitCode, ``<code>:<signal>``.

    This is 128 + the signal that ended the program, otherwise its own code, including one chosen after the SIGTERM that
    ends a job (CANCELLED, TIMEOUT).

    If Slurm has neither (``0:0``, nothing, or ``0:125``, which stands for "out of memory"), the state implies the
    signal: SIGTERM, or SIGKILL for OUT_OF_MEMORY; or the code 1 (NODE_FAIL, BOOT_FAIL, REVOKED, FAILED, unknown
    states). The code is 0 only for COMPLETED: other jobs have not done all their work, even if the program exited with
    0 when cancelled. None: the job has not ended.

    `scontrol` reports codes unchanged; `sacct` subtracts 128 from larger codes (143 becomes 15), and reports 0 for all
    cancelled jobs (seen on 22.05). So ask `sacct` only for jobs that the controller has deleted.
    """
    state = state_name(state)
    if not has_ended(state):
        return None
    code, _, signal = field.strip().partition(":")
    if signal.isdecimal() and 0 < int(signal) <= 64:  # Linux has no signals beyond
        return 128 + int(signal)
    if code.isdecimal() and int(code):
        return int(code)
    return _CODES.get(state, 1)
