"""`pycompss.api.constraint`."""

from runmem.commands.needs import constraint

Constraint = constraint

__all__ = ["constraint", "Constraint"]
