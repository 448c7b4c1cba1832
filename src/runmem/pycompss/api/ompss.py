"""`pycompss.api.ompss`."""

from runmem.commands.decorators import ompss

Ompss = ompss
OmpSs = ompss
OMPSs = ompss

__all__ = ["ompss", "Ompss", "OmpSs", "OMPSs"]
