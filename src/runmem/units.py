"""Units of memory: bytes in the code, MiB in `.dat` files, a unit with every printed number."""

from __future__ import annotations

import re

__all__ = ["KIB", "MIB", "GIB", "mib", "format_bytes", "parse_bytes"]

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_FACTORS = {
    "": 1, "b": 1, "byte": 1, "bytes": 1,
    "k": KIB, "kb": 1000, "kib": KIB,
    "m": MIB, "mb": 1000**2, "mib": MIB,
    "g": GIB, "gb": 1000**3, "gib": GIB,
    "t": 1024**4, "tb": 1000**4, "tib": 1024**4, "p": 1024**5, "pb": 1000**5, "pib": 1024**5,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*")


def mib(size_bytes: float) -> float:
    """Return `size_bytes` in MiB."""
    return size_bytes / MIB


def format_bytes(size_bytes: float | None, precision: int = 1) -> str:
    """Format a size with its unit, such as ``312.6 MiB`` or ``1.9 GiB``; ``-`` for an unknown one.

    Sizes below 1 KiB are in bytes. Increments may be negative.
    """
    if size_bytes is None:
        return "-"
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size_bytes) >= factor:
            return f"{size_bytes / factor:.{precision}f} {unit}"
    return f"{size_bytes:.0f} B"


def parse_bytes(text: str | int | float) -> int:
    """Convert a size such as ``2GiB``, ``500 MB`` or ``1048576`` to bytes.

    A single letter is a binary unit, as in Slurm and Java: ``4G`` is 4 GiB; ``4GB`` is 4 * 10**9 bytes.

    Raises
    ------
    ValueError
        If the text is not a number with an optional unit, or the unit is unknown.
    """
    if not isinstance(text, str):
        return int(text)
    match = _QUANTITY.fullmatch(text)
    factor = _FACTORS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not an amount of memory: write a number and a unit, for example 500MiB or 2GiB")
    return int(float(match.group(1)) * factor)
