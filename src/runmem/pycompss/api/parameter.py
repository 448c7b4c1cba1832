"""`pycompss.api.parameter`: every direction, and the keys of the dictionary form."""

from runmem.graph.directions import BY_NAME, KEYS

STDIN, STDOUT, STDERR = "stdin", "stdout", "stderr"
globals().update({**BY_NAME, **KEYS})

__all__ = [*BY_NAME, *KEYS, "STDIN", "STDOUT", "STDERR"]
