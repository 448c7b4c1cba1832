"""The readings agree with other sources of the kernel, and survive a fork and a program that closes descriptors."""

import os
import subprocess
import sys

import psutil
import pytest

from runmem.memory.process import ProcReadings, PsutilReadings, own_process
from runmem.units import MIB

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_resident_size_agrees_with_psutil():
    assert abs(own_process().resident_bytes() - psutil.Process().memory_info().rss) < 2 * MIB


def test_psutil_readings_have_a_size_and_no_mark():
    mark, resident = PsutilReadings().high_water_and_resident()
    assert mark is None
    assert resident > MIB


def test_psutil_readings_refuse_to_reset_the_mark():
    with pytest.raises(OSError, match="high-water mark"):
        PsutilReadings().reset_high_water_mark()


@linux
def test_the_mark_keeps_what_was_given_back_until_it_is_reset():
    readings = ProcReadings()
    before = readings.resident_bytes()
    block = bytearray(b"x") * (60 * MIB)
    del block
    assert readings.high_water_and_resident()[0] > before + 59 * MIB
    readings.reset_high_water_mark()
    mark, resident = readings.high_water_and_resident()
    assert mark < resident + MIB


@linux
def test_a_name_of_the_process_that_looks_like_a_field_is_not_read():
    out = run_python(
        "import ctypes; ctypes.CDLL(None).prctl(15, b'VmHWM:\\n 7 kB', 0, 0, 0)\n"
        "from runmem.memory.process import own_process; print(own_process().high_water_and_resident()[0])"
    )
    assert int(out) > MIB


@linux
def test_a_forked_child_reads_itself_and_not_its_parent():
    out = run_python(
        "import os\n"
        "from runmem.memory.process import own_process\n"
        "own = own_process(); before = own.resident_bytes()\n"
        "if (pid := os.fork()) == 0:\n"
        "    block = bytearray(b'x') * (50 << 20)\n"
        "    print(own.resident_bytes() - before, own.high_water_and_resident()[0] - before, flush=True); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    assert all(int(value) > 45 * MIB for value in out.split())


@linux
def test_closing_all_descriptors_neither_stops_the_readings_nor_writes_into_files_that_took_their_numbers(tmp_path):
    path = tmp_path / "precious"
    out = run_python(
        "import os\n"
        "from runmem.memory.process import own_process\n"
        "own = own_process(); own.high_water_and_resident(); own.reset_high_water_mark()\n"
        "os.closerange(3, 64)\n"
        f"files = [os.open({str(path)!r} + str(i), os.O_RDWR | os.O_CREAT) for i in range(6)]\n"
        "print(own.high_water_and_resident()[1], own.resident_bytes()); own.reset_high_water_mark()\n"
    )
    assert all(int(value) > MIB for value in out.split())
    assert [p.stat().st_size for p in sorted(tmp_path.iterdir())] == [0] * 6


@linux
def test_a_process_that_gave_up_its_user_can_still_reset_its_mark():
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    out = run_python(
        "import ctypes, os\n"
        "from runmem.memory.process import ProcReadings\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "try: os.open('/proc/self/clear_refs', os.O_WRONLY); print('open to all')\n"
        "except PermissionError: print('refused')\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0); readings = ProcReadings(); ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "readings.reset_high_water_mark(); print('reset')\n"
    )
    assert out.split("\n")[:2] == ["refused", "reset"]
