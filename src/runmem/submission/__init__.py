"""Runs a program as a job of a batch system: one file per system, with one contract (`contract.py`)."""

from __future__ import annotations

from runmem.submission.contract import BatchSystem, JobRequest, JobStatus
from runmem.submission.slurm import Slurm

__all__ = ["BATCH_SYSTEMS", "BatchSystem", "JobRequest", "JobStatus"]

BATCH_SYSTEMS: dict[str, type[BatchSystem]] = {system.name: system for system in (Slurm,)}
