"""`pycompss.api.mpi`."""

from runmem.commands.decorators import mpi

Mpi = mpi
MPI = mpi

__all__ = ["mpi", "Mpi", "MPI"]
