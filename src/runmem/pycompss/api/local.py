"""`pycompss.api.local`."""

from runmem.commands.synchronous import local

Local = local

__all__ = ["local", "Local"]
