"""`pycompss.api.constraint`."""

from runmem.commands.decorators import constraint

Constraint = constraint

__all__ = ["constraint", "Constraint"]
