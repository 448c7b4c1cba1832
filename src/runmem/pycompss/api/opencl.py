"""`pycompss.api.opencl`."""

from runmem.commands.decorators import opencl

OpenCL = opencl
Opencl = opencl

__all__ = ["opencl", "OpenCL", "Opencl"]
