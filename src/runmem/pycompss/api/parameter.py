"""`pycompss.api.parameter`."""

from runmem.graph.directions import (
    COLLECTION,
    COLLECTION_IN,
    COMMUTATIVE,
    CONCURRENT,
    FILE,
    FILE_IN,
    FILE_INOUT,
    FILE_OUT,
    IN,
    IN_DELETE,
    INOUT,
    OUT,
    Type,
)
from runmem.graph.directions import Direction_key as Direction

__all__ = [
    "IN", "OUT", "INOUT", "IN_DELETE", "CONCURRENT", "COMMUTATIVE", "FILE", "FILE_IN", "FILE_OUT", "FILE_INOUT",
    "COLLECTION", "COLLECTION_IN", "Type", "Direction",
]  # fmt: skip
