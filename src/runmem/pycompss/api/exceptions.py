"""`pycompss.api.exceptions`."""

from runmem.errors import COMPSsException

__all__ = ["COMPSsException"]
