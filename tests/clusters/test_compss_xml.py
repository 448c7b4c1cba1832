"""The XML files of COMPSs give the workers, their memory and the hosts of a run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from runmem.clusters.compss_xml import settings_from_xml
from runmem.errors import SettingError
from runmem.units import GIB


def node(name: str, inner: str) -> str:
    return f'<ComputeNode Name="{name}">{inner}</ComputeNode>'


def processor(units: int, kind: str = "CPU") -> str:
    return f'<Processor Name="p"><ComputingUnits>{units}</ComputingUnits><Type>{kind}</Type></Processor>'


MEMORY = "<Memory><Size>16</Size></Memory>"


@pytest.fixture
def files(tmp_path: Path):
    """Write the two files from the XML inside their roots, with a namespace; None for no file."""

    def write(project: str | None, resources: str | None) -> tuple[Path | None, Path | None]:
        paths: list[Path | None] = []
        for name, root, text in (("p.xml", "Project", project), ("r.xml", "ResourcesList", resources)):
            path = tmp_path / name
            if text is not None:
                path.write_text(f'<?xml version="1.0"?>\n<{root} xmlns="http://compss">{text}</{root}>\n')
            paths.append(None if text is None else path)
        return paths[0], paths[1]

    return write


def test_the_cores_and_the_memory_of_this_machine(files) -> None:
    project = "<MasterNode/>" + node("localhost", "<WorkingDir>/tmp</WorkingDir>")
    resources = node("localhost", processor(4) + processor(2) + processor(8, "GPU") + MEMORY) + node("other", "")
    assert settings_from_xml(*files(project, resources)) == {"workers": 6, "worker_memory": 16 * GIB // 6}
    assert settings_from_xml(*files(node(socket.gethostname(), ""), None)) == {}


def test_a_limit_of_tasks_is_a_limit_of_workers(files) -> None:
    limited = node("localhost", "<LimitOfTasks>2</LimitOfTasks>")
    assert settings_from_xml(*files(limited, node("localhost", processor(4)))) == {"workers": 2}
    assert settings_from_xml(*files(limited, None)) == {"workers": 2}


def test_other_nodes_are_hosts(files, caplog) -> None:
    both = node("node1", processor(4) + MEMORY) + node("node2", processor(4) + MEMORY)
    expected = {"hosts": "node1,node2", "workers": 8, "worker_memory": 4 * GIB}
    assert settings_from_xml(*files(None, both)) == expected
    assert settings_from_xml(*files(node("node1", ""), both)) == {**expected, "hosts": "node1", "workers": 4}
    assert settings_from_xml(*files(node("node1", "") + node("node3", ""), both)) == {"hosts": "node1,node3"}
    assert "r.xml does not have nodes of" in caplog.text
    assert "are not taken from it: node3" in caplog.text


def test_no_file_asks_for_nothing() -> None:
    assert settings_from_xml(None, None) == {}


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ("", "names no node"),
        (node("a", "<LimitOfTasks>some</LimitOfTasks>"), "LimitOfTasks: 'some' is not a positive number"),
        (node("a", "<LimitOfTasks>1.5</LimitOfTasks>"), "'1.5' is not a whole number of 1 or more"),
        (node("a", "<Memory><Size>-1</Size></Memory>"), "Memory: '-1' is not a positive number"),
        ("<", "is not XML"),
        (node("a", processor(4)) + node("a", processor(1)), "has ComputeNode a twice"),
        ("<ComputeNode/>" + node("a", ""), "has a ComputeNode without a name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(files, project: str, said: str) -> None:
    with pytest.raises(SettingError, match="--project: ") as raised:
        settings_from_xml(*files(project, None))
    assert said in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--resources: .*nothing.xml' cannot be read: No such file"):
        settings_from_xml(None, tmp_path / "nothing.xml")
