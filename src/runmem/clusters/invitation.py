"""What lets a node take part in a run: whom its workers join, and the certificate that they show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Invitation"]


@dataclass(frozen=True)
class Invitation:
    """What a node must know to start its workers.

    Attributes
    ----------
    scheduler : str
        Its address.
    security : dict or None
        Fields of `TlsSecurity`: authority, certificate and key as text; None: no encryption.
    workers : int or None
        Worker processes of this node; None: one a core that the batch system gives it.
    all_workers : int or None
        Worker processes of all nodes of a Slurm step together: each node takes its part of them.
    worker_memory_bytes : int or None
        Memory limit of a worker; None: its share of what this node may use.
    configuration : dict
        Dask settings of the workers, beside those of the node.
    joined : str
        Line that the node prints on standard error once its workers have joined; empty: none.
    """

    scheduler: str
    security: dict[str, str] | None = field(default=None, repr=False)
    workers: int | None = None
    all_workers: int | None = None
    worker_memory_bytes: int | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    joined: str = ""

    def to_line(self) -> str:
        """Return the line that a node reads."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Invitation:
        """Return what `to_line` wrote.

        Raises
        ------
        ValueError
            If it is not such a line.
        """
        try:
            return cls(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"standard input has no line that says whom to join: {error}") from error
