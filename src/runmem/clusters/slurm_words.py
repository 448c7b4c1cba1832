"""Slurm's words in plain ones: why a job waits, which reasons never pass, and what is wrong with Slurm itself.

The words are those of squeue(1), section JOB REASON CODES; the states those of its section JOB STATE CODES.
"""

from __future__ import annotations

__all__ = ["HOPELESS", "explained", "out_of_reach"]

HOPELESS = {
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

_OUT_OF_REACH = {
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


def out_of_reach(said: str) -> str | None:
    """Return what is wrong with Slurm itself, from what one of its commands said; None if it is not that."""
    return next((plain for words, plain in _OUT_OF_REACH.items() if any(word in said for word in words)), None)


def explained(reason: str) -> str:
    """Return Slurm's reason, with what it means where that is known.

    Limits of the site come as ``QOSMax...``, ``QOSGrp...``, ``AssocMax...``, ``AssocGrp...`` and ``MaxJobs...``.
    """
    meaning = HOPELESS.get(reason) or _PASSING.get(reason)
    if meaning is None and reason.startswith(("QOSMax", "QOSGrp", "Assoc", "MaxJobs", "MaxCpu", "MaxNode")):
        meaning = "a limit of the site on what you, the project or the quality of service may use at once"
    return reason if meaning is None else f"{reason}: {meaning}"
