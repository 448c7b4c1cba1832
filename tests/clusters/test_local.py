from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import dask
import distributed  # noqa: F401  # before dask.config.set: what that adds goes with its block
import pytest

from runmem.clusters.child_imports import is_embedded_worker
from runmem.clusters.local import EmbeddedCluster, apply_environment, script_environment, worker_count
from runmem.errors import SettingError
from runmem.memory.limits import memory_limit, share
from runmem.settings import resolve


def test_without_a_number_there_is_a_worker_for_each_core_that_may_be_used() -> None:
    assert worker_count(resolve({})) == len(os.sched_getaffinity(0))
    assert worker_count(resolve({"workers": 5})) == 5


def test_without_a_size_the_workers_share_what_the_machine_allows() -> None:
    assert EmbeddedCluster(resolve({"workers": 3})).worker_memory_bytes == share(memory_limit(), 3)


def test_workers_that_may_use_more_than_there_is_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "runmem"):
        EmbeddedCluster(resolve({"workers": 2, "worker_memory_bytes": memory_limit().limit_bytes}))
    assert "2 workers of" in caplog.text
    assert "use more than" in caplog.text


def test_certificates_that_cannot_be_used_are_told_before_there_is_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--tls_cert, --tls_key: missing"):
        EmbeddedCluster(resolve({"tls_ca": str(tmp_path / "ca.pem")}))


def test_this_process_is_no_worker() -> None:
    assert not is_embedded_worker()


def test_a_worker_that_takes_long_to_come_back_is_waited_for() -> None:
    patience = "distributed.deploy.lost-worker-timeout"
    cluster = EmbeddedCluster(resolve({"workers": 1}))
    with dask.config.set({patience: "10ms"}):  # no worker comes back as soon as that
        try:
            client = cluster.connect()
            (before,) = client.run(os.getpid).values()
            os.kill(before, signal.SIGKILL)
            assert client.submit(os.getpid, pure=False).result(timeout=60) != before
        finally:
            cluster.close()
        assert dask.config.get(patience) == "10ms"  # the program's own clusters are as they were


def test_a_script_gives_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNMEM_TEST_SAME", "as it was")
    script = tmp_path / "with space.sh"
    script.write_text("echo shown; export RUNMEM_TEST_A='two\nlines = 1'; RUNMEM_TEST_B=not_exported; cd /\n")
    variables = script_environment(script)
    assert variables["RUNMEM_TEST_A"] == "two\nlines = 1"
    assert "RUNMEM_TEST_B" not in variables
    assert "RUNMEM_TEST_SAME" not in variables
    assert "PATH" not in variables


def test_a_script_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    script = tmp_path / "env.sh"
    script.write_text("echo about to fail; false; export A=1\n")
    with pytest.raises(SettingError, match=r"ended with exit code 1:\n.*about to fail"):
        script_environment(script)


def test_a_missing_script_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--env_script: '.*none.sh' is not a file"):
        script_environment(tmp_path / "none.sh")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore environment and import path after the test."""
    before = dict(os.environ)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
def test_a_script_that_is_in_force_has_changed_this_process_and_is_not_sourced_again(tmp_path: Path) -> None:
    os.environ["RUNMEM_TEST_GONE"] = "1"
    script = tmp_path / "env.sh"
    script.write_text(
        f"echo once >> {tmp_path}/times\nexport PATH={tmp_path}/bin:$PATH PYTHONPATH={tmp_path}/modules\n"
        "export RUNMEM_TEST_A=a\n"
        "unset RUNMEM_TEST_GONE\n"
    )
    first, here = sys.path[0], os.getcwd()
    apply_environment(script)
    assert os.environ["RUNMEM_TEST_A"] == "a"
    assert os.environ["PATH"].startswith(f"{tmp_path}/bin:")
    assert "RUNMEM_TEST_GONE" not in os.environ
    assert sys.path[:2] == [first, f"{tmp_path}/modules"]
    assert os.environ["PWD"] == here == os.getcwd()
    assert script_environment(script) == {}
    assert (tmp_path / "times").read_text() == "once\n"
