from __future__ import annotations

from pathlib import Path

import pytest

from runmem.clusters.hosts import Host, distribute_workers, read_hosts
from runmem.errors import SettingError


def test_names_in_a_row() -> None:
    assert read_hosts("a") == [Host("a")]
    assert read_hosts("a, me@b.site,10.0.0.1,fe80::1%eth0") == [
        Host("a"), Host("me@b.site"), Host("10.0.0.1"), Host("fe80::1%eth0"),
    ]  # fmt: skip


def test_a_file_has_one_host_a_line_with_comments_users_and_workers(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\n\nnode1\nme@node2 workers=4  # the big one\n\tnode3\n")
    assert read_hosts(str(file)) == [Host("node1"), Host("me@node2", 4), Host("node3")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no hosts; write one per line"),
        ("# nothing\n\n", "has no hosts"),
        ("a\nb workers=0\n", r"line 2: 'workers=0' cannot be used; expected a host and optionally workers=N"),
        ("a\nb 4\n", "line 2: '4' cannot be used"),
        ("a workers=2 workers=4\n", "line 1: workers is given twice, as 2 and in 'workers=4'"),
        ("a\n-oProxyCommand=evil\n", "line 2: '-oProxyCommand=evil' is not a host name"),
        ("a\na\n", "a is given twice"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingError, match=message):
        read_hosts(str(file))


@pytest.mark.parametrize("value", ["-oProxyCommand=evil", "a,-b", "a,", "a b", "a;b"])
def test_what_is_no_name_of_a_host_never_reaches_ssh(value: str) -> None:
    with pytest.raises(SettingError, match="is not a host name"):
        read_hosts(value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(SettingError, match="there is no file './none'"):
        read_hosts("./none")


def test_workers_are_shared_out_evenly() -> None:
    hosts = [Host("a"), Host("b"), Host("c")]
    assert distribute_workers(hosts, None) == hosts
    assert [host.workers for host in distribute_workers(hosts, 8)] == [3, 3, 2]


def test_fewer_workers_than_hosts_and_two_numbers_are_refused() -> None:
    with pytest.raises(SettingError, match="--workers=1 is less than one worker for each of the 2 hosts"):
        distribute_workers([Host("a"), Host("b")], 1)
    with pytest.raises(SettingError, match=r"the hosts file also sets the number of workers \(b\)"):
        distribute_workers([Host("a"), Host("b", 2)], 4)
