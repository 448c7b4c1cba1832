"""The memory limit that applies to a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runmem.memory.limits import (
    MemoryLimit,
    cgroup_folders,
    cgroup_limits,
    memory_limit,
    node_memory_bytes,
    oom_kill_count,
    share,
    slurm_limits,
)
from runmem.units import MIB

V1_MOUNTS = """\
23 1 0:21 / / rw - overlay overlay rw
32 31 0:29 / {root}/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / {root}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = "31 23 0:28 / {root} rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return str(root).replace(" ", "\\040")


def test_the_least_limit_on_the_path_applies_in_version_1(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/slurm/memory.limit_in_bytes": "8000000000\n",
            "memory/slurm/job_1/memory.limit_in_bytes": "600000000\n",
            "memory/slurm/job_1/step_0/memory.limit_in_bytes": "9223372036854771712\n",
            "cpu/slurm/job_1/step_0/memory.limit_in_bytes": "1\n",
        },
    )
    cgroup = "4:memory:/slurm/job_1/step_0\n1:cpu:/slurm/job_1/step_0\n0::/\n"
    folders = cgroup_folders(cgroup, V1_MOUNTS.format(root=root))
    assert folders[0].path == tmp_path / "memory/slurm/job_1/step_0"
    limits = cgroup_limits(folders)
    assert [limit.limit_bytes for limit in limits] == [600_000_000, 8_000_000_000]
    assert limits[0].source == f"cgroup v1 {tmp_path}/memory/slurm/job_1"


def test_the_least_limit_on_the_path_applies_in_version_2(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "user.slice/memory.max": "700000000\n",
            "user.slice/user-1.slice/memory.max": "max\n",
            "user.slice/user-1.slice/a.scope/memory.max": "900000000\n",
        },
    )
    folders = cgroup_folders("0::/user.slice/user-1.slice/a.scope\n", V2_MOUNTS.format(root=root))
    assert {(limit.limit_bytes, limit.source) for limit in cgroup_limits(folders)} == {
        (900_000_000, f"cgroup v2 {tmp_path}/user.slice/user-1.slice/a.scope"),
        (700_000_000, f"cgroup v2 {tmp_path}/user.slice"),
    }


def test_a_mount_that_shows_only_part_of_the_tree_is_followed(tmp_path: Path) -> None:
    root = tree(tmp_path, {"memory.max": "800\n", "job/memory.max": "500\n"})
    mounts = f"31 23 0:28 /docker/abc {root} rw - cgroup2 cgroup2 rw\n"
    inside = cgroup_limits(cgroup_folders("0::/docker/abc/job\n", mounts))
    assert [limit.limit_bytes for limit in inside] == [500, 800]
    assert [limit.limit_bytes for limit in cgroup_limits(cgroup_folders("0::/docker/abc\n", mounts))] == [800]


@pytest.mark.parametrize("group", ["/docker/abcdef", "/../../other", "/elsewhere"])
def test_a_group_that_the_mount_does_not_show_has_the_limit_of_the_mount(tmp_path: Path, group: str) -> None:
    root = tree(tmp_path, {"memory.max": "800\n"})
    mounts = f"31 23 0:28 /docker/abc {root} rw - cgroup2 cgroup2 rw\n"
    limits = cgroup_limits(cgroup_folders(f"0::{group}\n", mounts))
    assert [limit.limit_bytes for limit in limits] == [800]


def test_a_mount_point_with_a_space_in_its_name_is_found(tmp_path: Path) -> None:
    root = tree(tmp_path / "odd place", {"job/memory.max": "500\n"})
    limits = cgroup_limits(cgroup_folders("0::/job\n", V2_MOUNTS.format(root=root)))
    assert [limit.limit_bytes for limit in limits] == [500]


@pytest.mark.parametrize("content", ["max\n", "9223372036854771712\n", "0\n", "-1\n", "", "lots\n"])
def test_an_unlimited_or_unreadable_value_is_ignored(tmp_path: Path, content: str) -> None:
    root = tree(tmp_path, {"memory.max": content})
    assert cgroup_limits(cgroup_folders("0::/\n", V2_MOUNTS.format(root=root))) == []


@pytest.mark.parametrize(("cgroup", "mounts"), [("", ""), ("nonsense\n::\n", "nonsense\n - \n1 2 - cgroup2\n")])
def test_without_cgroups_there_is_no_limit(cgroup: str, mounts: str) -> None:
    assert cgroup_folders(cgroup, mounts) == []


@pytest.mark.parametrize(
    ("environment", "limits"),
    [
        ({"SLURM_MEM_PER_NODE": "4096"}, [MemoryLimit(4096 * MIB, "SLURM_MEM_PER_NODE")]),
        (
            {"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "4"},
            [MemoryLimit(4000 * MIB, "SLURM_MEM_PER_CPU x SLURM_CPUS_ON_NODE")],
        ),
        ({"SLURM_MEM_PER_CPU": "1000"}, []),
        ({"SLURM_MEM_PER_NODE": "0"}, []),
        ({"SLURM_MEM_PER_NODE": "plenty"}, []),
        ({}, []),
    ],
)
def test_slurms_limits_are_read(environment: dict[str, str], limits: list[MemoryLimit]) -> None:
    assert slurm_limits(environment) == limits


def test_the_memory_of_the_node_equals_that_of_psutil() -> None:
    assert node_memory_bytes() == psutil.virtual_memory().total


def test_slurms_limit_applies_when_it_is_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "3")
    assert memory_limit() == MemoryLimit(3 * MIB, "SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(2**40))
    assert memory_limit().limit_bytes <= node_memory_bytes()


def test_the_memory_is_shared_among_the_workers() -> None:
    limit = MemoryLimit(1000, "node memory")
    assert share(limit, 3) == 333
    with pytest.raises(ValueError, match="at least 1"):
        share(limit, 0)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup of version 1, limited to 300 MiB, with a group below it that is not limited."""
    outer = Path("/sys/fs/cgroup/memory") / f"runmem-test-{os.getpid()}"
    inner = outer / "inner"
    try:
        inner.mkdir(parents=True)
        (outer / "memory.limit_in_bytes").write_text(str(300 * MIB))
    except OSError as error:
        if outer.exists():
            inner.rmdir()
            outer.rmdir()
        pytest.skip(f"a memory cgroup of version 1 cannot be made (needs root): {error}")
    yield inner
    inner.rmdir()
    outer.rmdir()


def run_inside(group: Path, code: str) -> str:
    """Run Python code as a process of `group` and return its output."""
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
    ended = subprocess.run([sys.executable, "-c", enter + code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_process_in_a_cgroup_sees_the_limit_of_a_group_above_it(cgroup: Path) -> None:
    code = "from runmem.memory.limits import memory_limit as m; print(m().limit_bytes, m().source)"
    assert run_inside(cgroup, code) == f"{300 * MIB} cgroup v1 {cgroup.parent}\n"


def test_a_process_killed_by_the_kernel_is_counted(cgroup: Path) -> None:
    code = f"""
import subprocess, sys
from runmem.memory.limits import oom_kill_count
before = oom_kill_count()
greedy = subprocess.run([sys.executable, "-c", "x = b'x' * {400 * MIB}"])
print(greedy.returncode, before, oom_kill_count())
"""
    assert run_inside(cgroup, code) == "-9 0 1\n"


def test_a_count_is_a_number_or_not_known() -> None:
    count = oom_kill_count()
    assert count is None or count >= 0
