"""What Slurm's reasons, states and exit codes mean, and what its messages say is wrong with Slurm itself.

Reasons are those of squeue(1), section JOB REASON CODES; states those of the sections JOB STATE CODES of sacct(1) and
squeue(1), and the passing ones that versions up to 25.05 have added.
"""

from __future__ import annotations

__all__ = ["NEVER_STARTING", "WAITING", "exit_code", "explain_reason", "fault_in_slurm", "has_ended", "state_name"]

NEVER_STARTING = {
    "DependencyNeverSatisfied": "the job it depends on did not end as asked",
    "BadConstraints": "no node has what --constraints asks for",
    "PartitionNodeLimit": "the queue allows a job fewer nodes: lower --num_nodes or choose another --queue",
    "PartitionTimeLimit": "the queue allows a job less time: lower --exec_time or choose another --queue",
    "PartitionConfig": "the queue does not allow so many nodes or cores, or so much memory or time",
    "AccountNotAllowed": "the queue is not open to this --project_name",
    "QOSNotAllowed": "the queue is not open to this --qos",
    "InvalidAccount": "the project (--project_name) is not valid",
    "InvalidQOS": "the quality of service (--qos) is not valid",
    "ReservationDeleted": "the reservation is gone",
}
_PASSING = {
    "None": "the scheduler has not looked at it yet",
    "Resources": "nodes, cores or memory that it needs are in use",
    "Priority": "jobs of a higher priority come first",
    "Dependency": "it waits for the job it depends on",
    "BeginTime": "the time to begin that it was given has not come",
    "JobHeldUser": "it is held: `scontrol release` lets it go",
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
# Exit codes of jobs of which Slurm says no more: 128 + SIGTERM, 128 + SIGKILL; 1 for all other states.
_CODES = {"COMPLETED": 0, "CANCELLED": 143, "TIMEOUT": 143, "DEADLINE": 143, "PREEMPTED": 143, "OUT_OF_MEMORY": 137}


def explain_reason(reason: str) -> str:
    """Add to Slurm's reason what it means, where that is known.

    Limits of the site come as ``QOSMax...``, ``QOSGrp...``, ``AssocMax...``, ``AssocGrp...`` and ``MaxJobs...``.
    """
    meaning = NEVER_STARTING.get(reason) or _PASSING.get(reason)
    if meaning is None and reason.startswith(("QOSMax", "QOSGrp", "Assoc", "MaxJobs", "MaxCpu", "MaxNode")):
        meaning = "a limit of the site on what you, the project or the quality of service may use at once"
    return reason if meaning is None else f"{reason}: {meaning}"


def fault_in_slurm(message: str) -> str | None:
    """Name what is wrong with Slurm itself, from the message of one of its commands; None if it is not that."""
    return next((fault for parts, fault in _FAULTS.items() if any(part in message for part in parts)), None)


def state_name(text: str) -> str:
    """Take the state out of a field that goes on (``CANCELLED by 1234``) or is cut off (``CANCELLED+``)."""
    return text.split()[0].rstrip("+") if text.strip() else ""


def has_ended(state: str) -> bool:
    """Check whether a job in this state is over.

    A state that this version does not know counts as an end: each of those that Slurm has added so far for a job as a
    whole (PREEMPTED, BOOT_FAIL, DEADLINE, OUT_OF_MEMORY) was one, and who waits for the end must not wait for ever.
    """
    return state not in WAITING and state not in _GOING


def exit_code(state: str, field: str) -> int | None:
    """Give the exit code of a job as a shell would, from its state and the field ExitCode, ``<code>:<signal>``.

    Whoever runs a program as a job must see what a shell shows of it: 128 + the signal where one ended it, otherwise
    its own code, also where it has handled the SIGTERM that ends a job (CANCELLED, TIMEOUT) and chosen the code itself.

    Where Slurm names neither (``0:0``, nothing, or ``0:125``, its way to write "out of memory" and no signal) it is the
    signal by which jobs come into that state: SIGTERM, SIGKILL for OUT_OF_MEMORY; or 1 (NODE_FAIL, BOOT_FAIL, REVOKED,
    FAILED, unknown states). It is 0 for COMPLETED alone: no other job has done all its work, even if its program ended
    with 0 when it was cancelled. None: the job has not ended.

    `scontrol` writes codes as they are; `sacct` writes those from 128 on 128 less (143 as 15), and 0 for a cancelled
    job whatever its program ended with (seen on 22.05). So ask `sacct` only for what the controller has forgotten.
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
