"""Random signals to random processes of a run: results are right or there is an error, and nothing is lost or left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from judge import wrong_trials

from runmem.clusters.certificate import make_certificate
from runmem.clusters.security import TlsSecurity

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
    pytest.mark.timeout(0),
]


def test_kills_on_this_machine(tmp_path: Path, each_seed: Callable[..., Iterator[int]]) -> None:
    assert wrong_trials(each_seed(1000, 3, 0.5), tmp_path, []) == []


def test_kills_with_tls(tmp_path: Path, each_seed: Callable[..., Iterator[int]]) -> None:
    files = TlsSecurity(*make_certificate()).write(tmp_path / "tls")
    options = [f"--tls_ca={files.ca}", f"--tls_cert={files.cert}", f"--tls_key={files.key}"]
    assert wrong_trials(each_seed(2000, 1, 0.2), tmp_path, options) == []
