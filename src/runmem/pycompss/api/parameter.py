"""`pycompss.api.parameter`: every direction, and the keys of the dictionary form."""

from runmem.graph.directions import BY_NAME, KEYS

STDIN, STDOUT, STDERR = "stdin", "stdout", "stderr"
block_count, block_length, stride = "block_count", "block_length", "stride"  # of a layout in `@mpi`
Stream = KEYS["StdIOStream"]  # its name in PyCOMPSs's older manuals and notebooks
globals().update({**BY_NAME, **KEYS})

__all__ = [*BY_NAME, *KEYS, "Stream", "STDIN", "STDOUT", "STDERR", "block_count", "block_length", "stride"]
