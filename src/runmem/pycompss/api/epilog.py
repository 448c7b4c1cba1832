"""`pycompss.api.epilog`."""

from runmem.commands.decorators import epilog

Epilog = epilog

__all__ = ["epilog", "Epilog"]
