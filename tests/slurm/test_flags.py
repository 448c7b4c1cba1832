from __future__ import annotations

import pytest

from runmem.errors import SettingError
from runmem.slurm.flags import format_memory, format_time, parse_flag
from runmem.units import GIB, MIB


def test_a_time_is_written_as_slurm_reads_it() -> None:
    assert [format_time(seconds) for seconds in (30, 5400, 172801)] == ["00:00:30", "01:30:00", "2-00:00:01"]


def test_a_memory_is_never_less_than_was_asked() -> None:
    assert [format_memory(size) for size in (MIB, MIB + 1, 2 * GIB)] == ["1M", "2M", "2048M"]


@pytest.mark.parametrize(
    ("given", "written"),
    [("--mem=4GiB", "--mem=4096M"), ("--mem-per-cpu 1.5G", "--mem-per-cpu=1536M"), ("--mem=4G", "--mem=4G"),
     ("--mem=4000", "--mem=4000"), (" --nice=10 ", "--nice=10"), ("--mail-type END", "--mail-type END")],
)  # fmt: skip
def test_memory_is_converted_and_all_else_handed_on_as_given(given: str, written: str) -> None:
    assert parse_flag(given) == written


@pytest.mark.parametrize("flag", ["nice=10", "--a\n#SBATCH --b", "", "--mem=4X"])
def test_a_flag_that_slurm_would_not_read_is_refused_by_its_name(flag: str) -> None:
    with pytest.raises(SettingError, match="--extra_submit_flag: ") as caught:
        parse_flag(flag)
    assert repr(flag.strip()) in str(caught.value) or repr(flag) in str(caught.value)
