"""`pycompss.api.implement`."""

from runmem.commands.needs import implement

Implement = implement

__all__ = ["implement", "Implement"]
