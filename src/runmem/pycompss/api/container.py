"""`pycompss.api.container`."""

from runmem.commands.decorators import container

Container = container

__all__ = ["container", "Container"]
