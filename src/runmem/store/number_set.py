"""A set of the numbers of calls, about one bit each."""

from __future__ import annotations

__all__ = ["NumberSet"]

_BLOCK = 1 << 15  # numbers that share a block


class NumberSet:
    """Set of integers from 0 on, most of which follow each other."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._count = 0

    def add(self, number: int) -> bool:
        """Add a number; return True if it is new."""
        block, bit = divmod(number, _BLOCK)
        bits = self._blocks.get(block)
        if bits is None:
            bits = self._blocks[block] = bytearray(_BLOCK // 8)
        if bits[bit >> 3] >> (bit & 7) & 1:
            return False
        bits[bit >> 3] |= 1 << (bit & 7)
        self._count += 1
        return True

    def __contains__(self, number: int) -> bool:
        block, bit = divmod(number, _BLOCK)
        bits = self._blocks.get(block)
        return bits is not None and bool(bits[bit >> 3] >> (bit & 7) & 1)

    def __len__(self) -> int:
        return self._count
