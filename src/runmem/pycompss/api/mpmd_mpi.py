"""`pycompss.api.mpmd_mpi`."""

from runmem.commands.decorators import mpmd_mpi

MPMDMPI = mpmd_mpi
MpmdMPI = mpmd_mpi

__all__ = ["mpmd_mpi", "MPMDMPI", "MpmdMPI"]
