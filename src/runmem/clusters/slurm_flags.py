"""Options that are handed on to Slurm as given, and the memory in them."""

from __future__ import annotations

import re

from runmem.errors import SettingError
from runmem.units import MIB, parse_bytes

__all__ = ["mebibytes", "slurm_flag"]

_MEMORY = re.compile(r"(--mem(?:-per-cpu|-per-gpu)?)(?:=|\s+)(\S+)")


def mebibytes(size_bytes: int) -> str:
    """Return a size as Slurm takes it, in whole MiB; what Slurm calls M."""
    return f"{-(-size_bytes // MIB)}M"


def slurm_flag(text: str) -> str:
    """Return an option of Slurm as given, its memory in a unit that Slurm knows.

    Raises
    ------
    SettingError
        If it is no option, would end the line of a job script, or asks for memory in no unit.
    """
    flag = text.strip()
    if not flag.startswith("-") or "\n" in flag:
        raise SettingError(
            f"--extra_submit_flag: {text!r} is no option of sbatch: write it whole, such as "
            "--extra_submit_flag=--nice=10."
        )
    memory = _MEMORY.fullmatch(flag)
    if memory is None or re.fullmatch(r"\d+[KMGTkmgt]?", memory[2]):
        return flag
    try:
        return f"{memory[1]}={mebibytes(parse_bytes(memory[2]))}"  # sbatch refuses 4GiB, and 4GB is 4 GiB there
    except ValueError as error:
        raise SettingError(
            f"--extra_submit_flag: {flag!r}: {error} (Slurm itself knows whole numbers with K, M, G or T)."
        ) from None
