"""The name of this node, under which its traces, records and spool are kept."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["machine_id", "node_name"]


def node_name() -> str:
    """Return what this node is called: RUNMEM_NODE_NAME, else Slurm's name for it in a job step, else the host name.

    Slurm's name (``SLURMD_NODENAME``) is the one that its users know from ``squeue`` and ``sacct``, and two of its
    nodes may share a host, as they do on test systems and with several slurmd on a front end.
    """
    for variable in ("RUNMEM_NODE_NAME", "SLURMD_NODENAME"):
        if name := os.environ.get(variable, "").strip():
            return name
    return socket.gethostname()


def machine_id() -> str:
    """Return what tells this system of processes from any other: the boot of its kernel and its process namespace.

    Two containers on one machine have one kernel and numbers of processes of their own, so they are two. Where there is
    no ``/proc`` it is the host name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
