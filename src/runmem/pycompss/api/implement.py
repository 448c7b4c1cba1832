"""`pycompss.api.implement`."""

from runmem.commands.decorators import implement

Implement = implement

__all__ = ["implement", "Implement"]
