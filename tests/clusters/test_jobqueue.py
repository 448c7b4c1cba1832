"""Job scripts of the real dask-jobqueue. Slurm itself is tested in tests/slurm, the other systems are not available."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest

from runmem.clusters import CLUSTERS, cluster_for
from runmem.clusters.jobqueue import JobQueueCluster
from runmem.errors import ClusterError, SettingError
from runmem.settings import resolve
from runmem.units import GIB

if find_spec("dask_jobqueue") is None:  # not imported here: that would change what Ctrl-C does
    pytest.skip("dask-jobqueue is not installed", allow_module_level=True)

KINDS = sorted(name for name, kind in CLUSTERS.items() if issubclass(kind, JobQueueCluster))
SYSTEMS = {
    "slurm": ("#SBATCH -J dask-worker", "#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=3G"),
    "pbs": ("#PBS -N dask-worker", "#PBS -l select=1:ncpus=1:mem=3072MB"),
    "sge": ("#$ -N dask-worker", "#$ -cwd"),
    "lsf": ("#BSUB -J dask-worker", "#BSUB -n 1", "#BSUB -M 3221226"),  # in KB of 1000 bytes
    "htcondor": ("RequestCpus = MY.DaskWorkerCores", "MY.DaskWorkerMemory = 3221225472", "MY.DaskWorkerDisk = "),
}


@pytest.fixture(autouse=True)
def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the commands that submit jobs on the PATH; they are never run."""
    monkeypatch.chdir(tmp_path)
    for name in {CLUSTERS[kind].program for kind in KINDS}:
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text("#!/bin/sh\nexit 1\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)


def asked(kind: str, **settings: Any) -> Any:
    return cluster_for(resolve({"cluster": kind, "workers": 3, "worker_memory_bytes": 3 * GIB, **settings}))


@pytest.fixture(params=KINDS)
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Start the scheduler of each kind without submitting jobs."""
    script = tmp_path / "my env.sh"
    script.touch()
    cluster = asked(request.param, env_script=script, python_memory_profile=True)
    with cluster._class(**cluster._options()) as started:
        yield SimpleNamespace(kind=request.param, cluster=cluster, started=started, text=started.job_script())
    cluster.close()
    assert not list(tmp_path.glob(".runmem-tls-*"))


def shell_command(jobs: SimpleNamespace) -> str:
    """Return the commands of a job script without the directives."""
    if jobs.kind != "htcondor":
        return str(jobs.text)
    (line,) = [line for line in jobs.text.splitlines() if line.startswith("Arguments = ")]
    quoted = line.removeprefix("Arguments = \"-c '").removesuffix("'\"")
    return quoted.replace("''", "'").replace('""', '"')


def test_a_job_asks_for_one_core_and_the_memory_of_a_worker(jobs: SimpleNamespace) -> None:
    for directive in SYSTEMS[jobs.kind]:
        assert directive in jobs.text


def test_a_job_starts_one_worker_that_shows_the_certificate_of_the_run(jobs: SimpleNamespace) -> None:
    command = shell_command(jobs)
    (line,) = [part for part in command.replace("; ", "\n").splitlines() if "dask_worker" in part]
    words = shlex.split(line)
    assert words[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    assert words[3] == jobs.started.scheduler_address
    assert words[3].startswith("tls://")
    assert words[words.index("--nthreads") + 1] == "1"
    assert words[words.index("--memory-limit") + 1] == "3.00GiB"
    assert words[words.index("--dashboard-address") + 1] == "127.0.0.1:0"
    for option in ("--tls-ca-file", "--tls-cert", "--tls-key"):
        file = Path(words[words.index(option) + 1])
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE KEY" not in jobs.text


def test_a_shell_takes_it_and_the_environment_script_comes_first(jobs: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "my env.sh").write_text("export SEEN=1\n")
    command = shell_command(jobs).replace(sys.executable, 'echo "$SEEN $DASK_DISTRIBUTED__WORKER__DAEMON"')
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 False -m distributed.cli.dask_worker")


def test_a_worker_has_a_folder_of_its_own_that_goes_with_the_job(jobs: SimpleNamespace, tmp_path: Path) -> None:
    there = tmp_path / "of the node"
    there.mkdir()
    stand_in = tmp_path / "bin" / "worker"  # in place of Dask's: tells what it would be given
    stand_in.write_text('#!/bin/sh\nfor last; do :; done\nwhile [ "$1" != --local-directory ]; do shift; done\n'
                        'stat -c "%a %n" "$2"\n')  # fmt: skip
    stand_in.chmod(0o755)
    command = shell_command(jobs).replace(f"{sys.executable} -m distributed.cli.dask_worker", str(stand_in))
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(there)}
    )
    assert done.returncode == 0, done.stderr
    mode, _, folder = done.stdout.strip().partition(" ")
    assert mode == "700"
    assert Path(folder).parent == there
    assert Path(folder).name.startswith("runmem-dask-")
    assert os.listdir(there) == []


def test_only_the_scheduler_listens_beyond_loopback_and_its_dashboard_is_named_as_it_is(jobs: SimpleNamespace) -> None:
    client = SimpleNamespace(
        dashboard_link=jobs.started.dashboard_link, scheduler=SimpleNamespace(address=jobs.started.scheduler_address)
    )
    shown = jobs.cluster.dashboard(client)
    port = int(jobs.started.scheduler_address.rpartition(":")[2])
    listening = [place.laddr for place in psutil.Process().net_connections("inet") if place.status == "LISTEN"]
    assert {place.ip for place in listening if place.port != port} == {"127.0.0.1"}
    assert shown.startswith("http://127.0.0.1:")
    assert int(shown.rpartition(":")[2].partition("/")[0]) in {place.port for place in listening}


def test_what_is_configured_stays(tmp_path: Path) -> None:
    configured = {"jobqueue.htcondor.disk": "7GB", "jobqueue.htcondor.worker-extra-args": ["--lifetime", "55m"]}
    with dask.config.set(configured):
        cluster = asked("htcondor")
        options = cluster._options()
        cluster.close()
    assert options["disk"] == "7GB"
    assert options["worker_extra_args"][:2] == ["--lifetime", "55m"]


def test_the_package_does_not_change_what_an_interruption_does() -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from contextlib import suppress\n"
        "from runmem.clusters import cluster_for\n"
        "from runmem.errors import ClusterError\n"
        "from runmem.settings import resolve\n"
        "with suppress(ClusterError):  # where there is no Slurm\n"
        "    cluster_for(resolve({'cluster': 'slurm', 'workers': 1}))\n"
        "assert 'dask_jobqueue' in sys.modules\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_command_or_package_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match=f"--cluster {kind} needs --workers"):
        asked(kind, workers=None)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(ClusterError, match=f"there is no `{CLUSTERS[kind].program}` on the PATH"):
            asked(kind)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ClusterError, match=r"pip install 'runmem\[jobqueue\]'"):
        asked(kind)


@pytest.mark.parametrize(
    ("lines", "waits_for"),
    [
        ("12|PENDING|Priority|2030-01-01T00:00:00", "Priority: jobs of a higher priority come first, expected to"),
        ("12|RUNNING|None|x;13|PENDING|Resources|N/A", "Resources: nodes, cores or memory that it needs are in use"),
        ("12|CONFIGURING|None|x", None), ("12|SUSPENDED|None|x", None), ("12|STAGE_OUT|None|x", None), ("", None),
        ("12|FAILED|NonZeroExitCode|x;13|RUNNING|None|x", None),
    ],
)  # fmt: skip
def test_slurm_tells_what_the_jobs_wait_for(program: Any, lines: str, waits_for: str | None) -> None:
    program("squeue", "".join(f"echo '{line}';" for line in lines.split(";")))
    why = asked("slurm").why_waiting(["12", "13"])
    assert why == waits_for or why.startswith(waits_for)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("12|FAILED|NonZeroExitCode|x;13|OUT_OF_MEMORY|None|x", r"before it had joined \(FAILED, OUT_OF_MEMORY\)"),
        ("12|PENDING|PartitionTimeLimit|N/A", "can never start .PartitionTimeLimit: the queue allows a job less time"),
    ],
)  # fmt: skip
def test_jobs_of_slurm_that_never_give_a_worker_are_an_error(program: Any, lines: str, message: str) -> None:
    program("squeue", "".join(f"echo '{line}';" for line in lines.split(";")))
    with pytest.raises(ClusterError, match=message):
        asked("slurm").why_waiting(["12", "13"])
