"""A program whose memory is known, as a processing of sensors takes it: ``driver.py SENSORS PEAK_S``.

It holds 100 MiB a sensor for PEAK_S seconds, then 10 MiB a sensor for 3 s. Started as several tasks of Slurm, the first
one does that and the others hold 10 MiB for as long.
"""

import os
import sys
import time

MIB = 2**20
sensors, peak_s = int(sys.argv[1]), float(sys.argv[2])


def hold(size_mib: int, seconds: float) -> None:
    """Touch so many MiB and hold them."""
    held = bytearray(size_mib * MIB)
    held[::4096] = b"\1" * len(held[::4096])
    time.sleep(seconds)


if os.environ.get("SLURM_PROCID", "0") == "0":
    hold(100 * sensors, peak_s)
    hold(10 * sensors, 3)
else:
    hold(10, peak_s + 3)
