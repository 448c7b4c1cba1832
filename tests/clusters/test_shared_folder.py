"""Files that another user prepares in the shared temporary folder have no effect and do not change."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runmem.clusters.in_process_scheduler import InProcessScheduler
from runmem.clusters.local import EmbeddedCluster
from runmem.clusters.security import TlsSecurity
from runmem.errors import SettingError
from runmem.settings import resolve
from runmem.store.layout import Spool

STRANGER = 12345
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to put something there as another user")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A shared folder such as /tmp, in which another user has made links from Dask's names to a victim's file."""
    victim = tmp_path / "thesis.tex"
    victim.write_text("years of work")
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    for name in ("dask-scratch-space", f"dask-scratch-space-{os.getuid()}"):
        trap = folder / name
        trap.mkdir()
        for lock in ("global.lock", "purge.lock"):
            (trap / lock).symlink_to(victim)
        trap.chmod(0o1777)
        if os.geteuid() == 0:
            os.chown(trap, STRANGER, STRANGER)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert victim.read_text() == "years of work"
    assert sorted(os.listdir(folder)) == ["dask-scratch-space", f"dask-scratch-space-{os.getuid()}"]
    for trap in folder.iterdir():
        assert sorted(os.listdir(trap)) == ["global.lock", "purge.lock"]


def test_no_part_of_the_embedded_cluster_takes_a_folder_of_somebody_else(shared: Path) -> None:
    cluster = EmbeddedCluster(resolve({"workers": 1}))
    try:
        client = cluster.connect()
        places = [
            Path(client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.local_directory)),
            *map(Path, client.run(lambda dask_worker: dask_worker.local_directory).values()),
            *map(Path, client.run(lambda dask_worker: dask_worker.local_directory, nanny=True).values()),
        ]
        assert len(places) == 3
        for place in places:
            ours = shared / place.relative_to(shared).parts[0]
            assert ours.name.startswith("runmem-dask-")
            assert ours.stat().st_mode & 0o777 == 0o700
            assert ours.stat().st_uid == os.getuid()
    finally:
        cluster.close()


@pytest.mark.parametrize("security", [None, "tls"])
def test_nor_does_a_scheduler_for_workers_elsewhere(shared: Path, security: str | None) -> None:
    from runmem.clusters.certificate import make_certificate

    scheduler = InProcessScheduler()
    tls = TlsSecurity(*make_certificate()) if security else None
    try:
        client = scheduler.start_for_hosts("127.0.0.1", 0, tls)
        place = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.local_directory)
        assert Path(place).relative_to(shared).parts[0].startswith("runmem-dask-")
    finally:
        scheduler.close()


@root
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_spool_that_somebody_else_has_made_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool.of_run("run")
    spool.root.parent.mkdir()
    spool.root.parent.chmod(0o1777)
    if kind == "folder":
        spool.root.mkdir(mode=0o777)
        os.chown(spool.root, STRANGER, STRANGER)
    else:
        (tmp_path / "elsewhere").mkdir()
        spool.root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="belongs to another user"):
        spool.make()
    assert not (tmp_path / "elsewhere").exists() or os.listdir(tmp_path / "elsewhere") == []
