"""Options of Slurm's commands: memory and time as Slurm writes them, and options that users write themselves."""

from __future__ import annotations

import re

from runmem.errors import SettingError
from runmem.units import MIB, parse_bytes

__all__ = ["format_memory", "format_time", "parse_flag"]

_MEMORY = re.compile(r"(--mem(?:-per-cpu|-per-gpu)?)(?:=|\s+)(\S+)")


def format_memory(size_bytes: int) -> str:
    """Write a size as Slurm takes it, in whole MiB; what Slurm calls M."""
    return f"{-(-size_bytes // MIB)}M"


def format_time(seconds: int) -> str:
    """Write a time as Slurm does: ``[days-]hours:minutes:seconds``."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def parse_flag(text: str) -> str:
    """Check an option of Slurm that a user wrote, and convert its memory to a unit that Slurm knows.

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
        return f"{memory[1]}={format_memory(parse_bytes(memory[2]))}"  # sbatch refuses 4GiB, and 4GB is 4 GiB there
    except ValueError as error:
        raise SettingError(
            f"--extra_submit_flag: {flag!r}: {error} (Slurm itself knows whole numbers with K, M, G or T)."
        ) from None
