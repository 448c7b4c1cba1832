"""`pycompss.api.software`."""

from runmem.commands.software import software

Software = software

__all__ = ["software", "Software"]
