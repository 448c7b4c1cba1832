"""The folder of datasets: stored data survive a round trip, names are safe, writes are atomic."""

from __future__ import annotations

import json
import math
import os

import pytest

from runmem.pipe_base.butler import Butler, ButlerError, DatasetNotFoundError, FolderButler
from runmem.pipe_base.metadata import TaskMetadata
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement, Metric


@pytest.fixture
def butler(tmp_path):
    return FolderButler(tmp_path / "repository")


def files(butler):
    return sorted(str(path.relative_to(butler.root)) for path in butler.root.rglob("*") if path.is_file())


def test_a_folder_fits_the_protocol(butler):
    assert isinstance(butler, Butler)


def test_metadata_come_back_and_are_the_json_of_lsst(butler):
    metadata = TaskMetadata.from_dict({"demo.runEndMaxResidentSetSize": [1, 2], "demo.x": math.inf, "name": "a"})
    path = butler.put(metadata, "demo_metadata", visit=42, instrument="DECam")
    assert butler.get("demo_metadata", {"instrument": "DECam", "visit": 42}) == metadata
    assert set(json.loads(path.read_text())) == {"scalars", "arrays", "metadata"}
    assert files(butler) == ["demo_metadata/instrument=DECam,visit=42.metadata.json"]


def test_a_stored_measurement_keeps_its_notes_and_its_file_is_a_job(butler):
    measurement = Measurement("demo.Peak", 12345678, "byte", {"estimator": "x", "values": 3})
    path = butler.put(measurement, "metricvalue_demo_Peak", visit=1)
    found = butler.get("metricvalue_demo_Peak", visit=1)
    assert isinstance(found, Measurement)
    assert Job([found]).json == Job([measurement]).json
    assert Job.read(path).json == Job([measurement]).json


def test_a_job_survives_a_round_trip(butler):
    job = Job([Measurement("demo.Peak", 1.0)], [Metric("demo.Peak")])
    butler.put(job, "job")
    assert butler.get("job").json == job.json


@pytest.mark.parametrize("text", ["", "config.a = 1\nconfig.b = 'ä'\n", "with\r\nother\rline ends", '{"a": 1}'])
def test_text_survives_a_round_trip(butler, text):
    butler.put(text, "demo_config")
    assert butler.get("demo_config") == text


@pytest.mark.parametrize("value", [None, 0, 1.5, True, [], {"a": [1, None, {"b": "c"}]}])
def test_json_values_survive_a_round_trip(butler, value):
    butler.put(value, "packages")
    found = butler.get("packages")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {"a": object()}, b"bytes", {1, 2}, "\ud800"])
def test_what_would_not_come_back_as_it_is_is_refused(butler, value):
    with pytest.raises(ButlerError, match="demo cannot be stored"):
        butler.put(value, "demo")
    assert not butler.root.exists()


@pytest.mark.parametrize(
    "data_id",
    [
        {"visit": -1, "detector": 0},
        {"filter": "7"}, {"filter": "-7"}, {"filter": "007"}, {"filter": ""},
        {"tract": "../../etc/passwd"}, {"tract": "."}, {"tract": "a/b"}, {"tract": "\\"}, {"tract": "a\0b"},
        {"day": "2026-08-01T10:00:00.5"}, {"name": "a,b=c~1%41 ü"}, {"odd,key=/..": "x"},
    ],
)  # fmt: skip
def test_any_data_id_names_a_file_inside_the_folder_and_is_listed_as_it_was(butler, data_id):
    path = butler.put("x", "demo", data_id)
    assert path.resolve().parent == (butler.root / "demo").resolve()
    assert butler.get("demo", data_id) == "x"
    assert butler.dataIds("demo") == [data_id]


def test_a_number_and_its_text_are_different_data_ids(butler):
    butler.put("number", "demo", visit=1)
    butler.put("text", "demo", visit="1")
    assert butler.get("demo", visit=1) == "number"
    assert butler.get("demo", visit="1") == "text"


@pytest.mark.parametrize("name", ["../demo", "/tmp/demo", "..", ".", "a/b", "a.b", "täsk", "a b"])
def test_any_name_of_a_dataset_type_stays_inside_the_folder(butler, name):
    path = butler.put("x", name)
    assert path.resolve().parent == butler.root.resolve()
    assert butler.get(name) == "x"
    butler.put("y", name, visit=1)
    assert butler.dataIds(name) == [{}, {"visit": 1}]
    assert all(butler.root.resolve() in found.resolve().parents for found in butler.root.parent.rglob("*.txt"))


@pytest.mark.parametrize(
    ("data_id", "complaint"),
    [
        ({"visit": 1.5}, "visit = 1.5 is a float"),
        ({"visit": None}, "visit = None is a NoneType"),
        ({"visit": True}, "visit = True is a bool"),
        ({3: 1}, "a dimension is 3"),
        ({"": 1}, "a dimension is ''"),
        ([1], "is not a data id"),
        ({"filter": "x" * 300}, "the file would have 307 characters"),
    ],
)
def test_a_data_id_that_cannot_be_one_is_named(butler, data_id, complaint):
    with pytest.raises(ButlerError, match=complaint):
        butler.put("x", "demo", data_id)
    with pytest.raises(ButlerError, match=complaint):
        butler.exists("demo", data_id)


def test_a_missing_dataset_is_named_with_its_place(butler):
    with pytest.raises(DatasetNotFoundError, match=r"no dataset demo for visit=1: .*demo/visit=1"):
        butler.get("demo", visit=1)
    with pytest.raises(LookupError):
        butler.get("demo")
    assert not butler.exists("demo", visit=1)


def test_a_damaged_file_is_named(butler):
    path = butler.put(TaskMetadata.from_dict({"a": 1}), "demo")
    path.write_text('{"scalars": 1')
    with pytest.raises(ButlerError, match="demo.metadata.json cannot be read"):
        butler.get("demo")


def test_the_new_dataset_takes_the_place_of_the_old_one_also_when_it_is_of_another_kind(butler):
    butler.put("text", "demo", visit=1)
    butler.put({"a": 1}, "demo", visit=1)
    assert butler.get("demo", visit=1) == {"a": 1}
    assert files(butler) == ["demo/visit=1.json"]


def test_backups_are_numbered_from_the_newest(butler):
    for text in ("first", "second", "third"):
        butler.put(text, "demo_config", doBackup=True)
    assert butler.get("demo_config") == "third"
    assert files(butler) == ["demo_config.txt", "demo_config.txt~1", "demo_config.txt~2"]
    assert (butler.root / "demo_config.txt~1").read_text() == "second"
    assert (butler.root / "demo_config.txt~2").read_text() == "first"
    assert butler.dataIds("demo_config") == [{}]


def test_data_ids_are_listed_in_order_and_foreign_files_are_left_out(butler):
    for visit in (10, 9, -1):
        butler.put("x", "demo", visit=visit, instrument="A")
    (butler.root / "demo" / "notes.txt").write_text("mine")
    (butler.root / "demo" / ".hidden").write_text("mine")
    assert [data_id["visit"] for data_id in butler.dataIds("demo")] == [-1, 9, 10]
    assert butler.dataIds("other") == []


def test_a_write_that_fails_leaves_the_old_dataset_and_no_rest(butler, monkeypatch):
    butler.put("old", "demo")

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(ButlerError, match="demo cannot be written to .*No space left"):
        butler.put("new", "demo")
    assert butler.get("demo") == "old"
    assert files(butler) == ["demo.txt"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ButlerError, match="demo cannot be written to"):
        FolderButler(tmp_path / "repository").put("x", "demo")


def test_a_dataset_is_written_to_what_is_there(written_kind, make_target, butler):
    target = make_target(written_kind, butler.root / "demo.txt")
    assert butler.put("new", "demo") == target.path
    target.check()
    if target.keeps_content:
        assert target.content() == b"new"


def test_a_dataset_does_not_replace_a_folder_or_device(refused_kind, make_target, butler):
    target = make_target(refused_kind, butler.root / "demo.txt")
    with pytest.raises(ButlerError, match=r"demo cannot be written to .*demo\.txt: it is a "):
        butler.put("new", "demo")
    target.check()


def test_other_files_are_not_removed(refused_kind, make_target, butler):
    target = make_target(refused_kind, butler.root / "demo.json")
    butler.put("new", "demo")
    target.check()


def test_a_backup_of_what_a_link_points_to_is_a_file_of_its_own(make_target, butler):
    target = make_target("link to a file", butler.root / "demo.txt")
    old = target.content()
    butler.put("new", "demo", doBackup=True)
    target.check()
    backup = butler.root / "demo.txt~1"
    assert (backup.read_bytes(), backup.is_symlink(), target.content()) == (old, False, b"new")
    assert backup.stat().st_mode == target.path.stat().st_mode


def test_every_error_of_the_file_system_is_one_of_the_butler(tmp_path):
    butler, too_long = FolderButler(tmp_path), "x" * 300
    for call in (
        lambda: butler.get(too_long, visit=1),
        lambda: butler.exists(too_long, visit=1),
        lambda: butler.put({}, too_long, visit=1),
        lambda: butler.dataIds(too_long),
    ):
        with pytest.raises(ButlerError, match="File name too long"):
            call()
