"""Options of Slurm's commands: formats of memory and time, and options given by users."""

from __future__ import annotations

import re

from runmem.errors import SettingError
from runmem.units import MIB, parse_bytes

__all__ = ["format_memory", "format_time", "parse_flag"]

_MEMORY = re.compile(r"(--mem(?:-per-cpu|-per-gpu)?)(?:=|\s+)(\S+)")


def format_memory(size_bytes: int) -> str:
    """Format a size for Slurm in whole MiB, which Slurm calls M."""
    return f"{-(-size_bytes // MIB)}M"


def format_time(seconds: int) -> str:
    """Format a time for Slurm: ``[days-]hours:minutes:seconds``."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def parse_flag(text: str) -> str:
    """Check an option of Slurm given by a user, and convert a memory to a unit that Slurm accepts.

    Raises
    ------
    SettingError
        If it is not an option, contains a line break, or has a memory with an unknown unit.
    """
    flag = text.strip()
    if not flag.startswith("-") or "\n" in flag:
        raise SettingError(
            f"--extra_submit_flag: {text!r} is not an option of sbatch: write it in full, such as "
            "--extra_submit_flag=--nice=10."
        )
    memory = _MEMORY.fullmatch(flag)
    if memory is None or re.fullmatch(r"\d+[KMGTkmgt]?", memory[2]):
        return flag
    try:
        return f"{memory[1]}={format_memory(parse_bytes(memory[2]))}"  # sbatch rejects 4GiB, and reads 4GB as 4 GiB
    except ValueError as error:
        raise SettingError(
            f"--extra_submit_flag: {flag!r}: {error} (Slurm itself knows whole numbers with K, M, G or T)."
        ) from None
