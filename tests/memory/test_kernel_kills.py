from __future__ import annotations

from pathlib import Path

import pytest

from runmem.deaths import Cause
from runmem.memory.kernel_kills import KernelKill, KernelKills
from runmem.memory.limits import CgroupFolder
from runmem.units import MIB

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 7\noom {}\noom_kill {}\noom_group_kill 0\n"
VMSTAT = "nr_free_pages 12\noom_kill {}\nballoon_inflate 0\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def vmstat(tmp_path: Path) -> Path:
    write(tmp_path, vmstat=VMSTAT.format(0))
    return tmp_path / "vmstat"


def test_a_kill_at_the_limit_of_a_group_above_names_that_group(tmp_path: Path, vmstat: Path) -> None:
    job, step = tmp_path / "job", tmp_path / "job" / "step"
    write(job, memory__oom_control=V1.format(0), memory__failcnt="3\n", memory__limit_in_bytes=f"{300 * MIB}\n")
    write(step, memory__oom_control=V1.format(0), memory__failcnt="0\n", memory__limit_in_bytes=f"{2**63 - 4096}\n")
    kills = KernelKills([CgroupFolder(1, step), CgroupFolder(1, job)], vmstat)
    assert kills.are_counted
    assert kills.last() is None
    write(job, memory__failcnt="90\n")
    assert kills.last() is None  # it was full, and memory could be freed
    write(job, memory__failcnt="99\n")
    write(step, memory__oom_control=V1.format(1))
    kill = kills.last()
    assert kill == KernelKill(Cause.CGROUP_LIMIT, 300 * MIB, f"the control group {job} (cgroup v1)")
    assert kill.place == f"the control group {job} (cgroup v1) was at its limit of 300.0 MiB"
    assert kills.last() is None


def test_a_kill_in_a_job_of_slurm_is_at_its_limit(tmp_path: Path, vmstat: Path) -> None:
    step = tmp_path / "system.slice" / "slurmstepd.scope" / "job_4711" / "step_0"
    write(step, memory__events=V2.format(0, 0), memory__max=f"{500 * MIB}\n")
    write(step, memory__events__local=V2.format(0, 0))
    kills = KernelKills([CgroupFolder(2, step)], vmstat)
    write(step, memory__events=V2.format(1, 1), memory__events__local=V2.format(1, 1))
    kill = kills.last()
    assert kill is not None
    assert (kill.cause, kill.limit_bytes) == (Cause.SLURM_LIMIT, 500 * MIB)
    assert kill.place == "Slurm's job 4711 (--mem, --mem-per-cpu) was at its limit of 500.0 MiB"


def test_a_kill_in_a_group_that_was_not_full_is_for_the_memory_of_the_node(tmp_path: Path, vmstat: Path) -> None:
    group = tmp_path / "group"
    write(group, memory__events=V2.format(0, 0), memory__max=f"{500 * MIB}\n")
    kills = KernelKills([CgroupFolder(2, group)], vmstat)
    write(group, memory__events=V2.format(0, 1))
    vmstat.write_text(VMSTAT.format(1))
    assert kills.last() == KernelKill(Cause.NODE_MEMORY)


def test_a_kill_elsewhere_on_the_node_is_not_one_in_this_group(tmp_path: Path, vmstat: Path) -> None:
    group = tmp_path / "group"
    write(group, memory__events=V2.format(0, 0), memory__max="max\n")
    kills = KernelKills([CgroupFolder(2, group)], vmstat)
    vmstat.write_text(VMSTAT.format(1))
    assert kills.last() is None


def test_without_control_groups_the_count_of_the_node_decides(tmp_path: Path, vmstat: Path) -> None:
    kills = KernelKills([], vmstat)
    vmstat.write_text(VMSTAT.format(2))
    assert kills.last() == KernelKill(Cause.NODE_MEMORY)


def test_a_kernel_that_does_not_count_cannot_tell(tmp_path: Path) -> None:
    kills = KernelKills([], tmp_path / "missing")
    assert not kills.are_counted
    assert kills.last() is None
