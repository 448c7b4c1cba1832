"""The name of this node, under which its traces, records and spool are kept."""

from __future__ import annotations

import os
import socket

__all__ = ["node_name"]


def node_name() -> str:
    """Return what this node is called: Slurm's name for it inside a job step, else the host name.

    Slurm's name (``SLURMD_NODENAME``) is the one that its users know from ``squeue`` and ``sacct``, and two of its
    nodes may share a host, as they do on test systems and with several slurmd on a front end.
    """
    return os.environ.get("SLURMD_NODENAME", "").strip() or socket.gethostname()
