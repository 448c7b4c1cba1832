"""The name of this node in traces, records and spools."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["machine_id", "node_name"]


def node_name() -> str:
    """Return the name of this node: RUNMEM_NODE_NAME, else Slurm's name for it in a job step, else the host name.

    Users know Slurm's name (``SLURMD_NODENAME``) from ``squeue`` and ``sacct``, and several Slurm nodes may share a
    host, as on test systems.
    """
    for variable in ("RUNMEM_NODE_NAME", "SLURMD_NODENAME"):
        if name := os.environ.get(variable, "").strip():
            return name
    return socket.gethostname()


def machine_id() -> str:
    """Return an id of this process namespace: the boot id of the kernel and the namespace, without ``/proc`` the host.

    Two containers on one machine share a kernel but have separate process ids, so their ids differ.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
