"""Random signals to random processes of a run: results are right or there is an error, and nothing is lost or left."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from checks import wrongs
from faults import TARGETS, choose_faults
from generated import generate
from trial import Trial, prepare, run_trial

from runmem.clusters.certificate import make_certificate
from runmem.clusters.security import TlsSecurity

HOSTS = Path(__file__).parents[1] / "hosts" / "hosts.sh"
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
    pytest.mark.timeout(0),
]


def judge(seed: int, folder: Path, options: Sequence[str], targets: tuple[str, ...] = TARGETS) -> list[str]:
    """Run the trial of a seed; return what is wrong, with all that is needed to look at it."""
    choose = random.Random(f"faults {seed}")
    program = generate(seed)
    workers = choose.choice((2, 4) if "host" in targets else (1, 2, 4))
    faults = choose_faults(choose, program.points, targets)
    trial = run_trial(prepare(folder, program), [f"--workers={workers}", *options], faults)
    found = wrongs(trial)
    if found:
        return [described(seed, trial, workers, options), *found]
    shutil.rmtree(folder)
    return []


def described(seed: int, trial: Trial, workers: int, options: Sequence[str]) -> str:
    what = ", ".join(f"{sent.fault.number.name} to {sent.fault.target} {sent.pids[:3]} at point {sent.fault.point} "
                     f"({sent.fault.delay_s:.2f} s)" for sent in trial.sent)  # fmt: skip
    return (
        f"SEED {seed}: {workers} workers {' '.join(options)}; {what or 'no signal'}; exit code {trial.code} after "
        f"{trial.ended_s - trial.began_s:.1f} s; all of it is in {trial.folder}"
    )


def all_of(seeds: Iterator[int], folder: Path, options: Sequence[str], targets: tuple[str, ...] = TARGETS) -> None:
    failed, tried = [], 0
    for seed in seeds:
        tried += 1
        if found := judge(seed, folder / str(seed), options, targets):
            failed.append("\n  ".join(found))
            print(failed[-1], flush=True)
    assert not failed, f"{len(failed)} of {tried} trials\n" + "\n".join(failed)


def test_kills_on_this_machine(tmp_path: Path, each_seed: Callable[..., Iterator[int]]) -> None:
    all_of(each_seed(1000, 5, 0.5), tmp_path, [])


def test_kills_with_tls(tmp_path: Path, each_seed: Callable[..., Iterator[int]]) -> None:
    files = TlsSecurity(*make_certificate()).write(tmp_path / "tls")
    options = [f"--tls_ca={files.ca}", f"--tls_cert={files.cert}", f"--tls_key={files.key}"]
    all_of(each_seed(2000, 1, 0.2), tmp_path, options)


@pytest.fixture
def over_two_hosts(tmp_path: Path) -> Iterator[list[str]]:
    """The options of a run over two hosts: network namespaces, entered in place of ssh."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("needs root and iproute2 to make network namespaces")
    subprocess.run([str(HOSTS), "down", "2"], capture_output=True)
    made = subprocess.run([str(HOSTS), "up", "2"], capture_output=True, text=True)
    try:
        if made.returncode:
            pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
        ssh = tmp_path / "ssh"  # ... OPTIONS -- host1 COMMAND: as sshd does, it gives the command to a shell
        ssh.write_text(
            '#!/bin/bash\nwhile [ "$1" != -- ]; do [ "$1" = -G ] && exit 1; shift; done\n'
            f'exec {HOSTS} run "${{2#host}}" bash -c "$3"\n'
        )
        ssh.chmod(0o755)
        yield ["--hosts=host1,host2", f"--ssh_command={ssh}", "--master_address=10.77.0.1"]
    finally:
        subprocess.run([str(HOSTS), "down", "2"], capture_output=True)


def test_kills_over_two_hosts(
    tmp_path: Path, over_two_hosts: list[str], each_seed: Callable[..., Iterator[int]]
) -> None:
    all_of(each_seed(3000, 1, 0.3), tmp_path, over_two_hosts, (*TARGETS, "host"))
