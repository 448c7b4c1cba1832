"""`pycompss.api.compss`."""

from runmem.commands.decorators import compss

COMPSs = compss
Compss = compss

__all__ = ["compss", "COMPSs", "Compss"]
