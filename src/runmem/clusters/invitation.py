"""The message that starts the workers of a node: address and certificate of the run, and their settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

__all__ = ["Invitation"]


@dataclass(frozen=True)
class Invitation:
    """Address and settings for the workers of a node.

    Attributes
    ----------
    scheduler : str
        Address of the scheduler.
    security : dict or None
        Fields of `TlsSecurity`: authority, certificate and key as text; None: no encryption.
    workers : int or None
        Number of worker processes of this node; None: one per core of the job.
    all_workers : int or None
        Number of worker processes of all nodes of a Slurm step, distributed evenly.
    worker_memory_bytes : int or None
        Memory limit of a worker; None: an equal share of the node's.
    configuration : dict
        Dask settings of the workers, in addition to those of the node.
    joined : str
        Line to print to standard error when the workers have joined; empty: none.
    shares_memory : bool
        Whether each worker may use the memory of all workers of its node.
    """

    scheduler: str
    security: dict[str, str] | None = field(default=None, repr=False)
    workers: int | None = None
    all_workers: int | None = None
    worker_memory_bytes: int | None = None
    configuration: dict[str, object] = field(default_factory=dict)
    joined: str = ""
    shares_memory: bool = False

    def to_line(self) -> str:
        """Serialize to a line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Invitation:
        """Parse a line of `to_line`.

        Raises
        ------
        ValueError
            If the line is invalid.
        """
        try:
            return cls(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"standard input has no invitation to a run: {error}") from error
