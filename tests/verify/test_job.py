from __future__ import annotations

import json
import math

import pytest

from runmem.errors import SettingError
from runmem.verify.blob import Blob
from runmem.verify.datum import Datum
from runmem.verify.job import DuplicateMeasurementError, Job
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.quantity import Quantity, UnitError
from runmem.verify.spec import ThresholdSpecification

FOREIGN = {
    "measurements": [
        {"metric": "pkg.Peak", "identifier": "0" * 32, "value": 1.0, "unit": "byte", "blob_refs": ["b1"]},
        {"metric": "pkg.Astrometry", "identifier": "1" * 32, "value": 3.5, "unit": "marcsec", "blob_refs": []},
    ],
    "blobs": [
        {
            "identifier": "b1",
            "name": "pkg.Peak",
            "data": {"start": {"value": "2026", "unit": "", "label": None, "description": None}},
        }
    ],
    "metrics": [
        {
            "name": "pkg.Peak",
            "description": "d",
            "unit": "byte",
            "tags": ["t"],
            "reference": {"doc": None, "page": None, "url": None},
        }
    ],
    "specs": [
        {
            "name": "pkg.Peak.design",
            "type": "threshold",
            "threshold": {"value": 5.0, "unit": "kB", "operator": "<"},
            "metadata_query": {"instrument": "cam"},
            "tags": ["LPM-17"],
        }
    ],
    "meta": {"pkg.Peak.estimator": "timeMethod", "instrument": "cam"},
}


def test_a_foreign_job_is_read_and_written_again_unchanged():
    assert Job.deserialize(**json.loads(json.dumps(FOREIGN))).json == FOREIGN


def test_the_notes_of_a_measurement_are_kept_in_meta_under_its_metrics_name(tmp_path):
    job = Job([Measurement("pkg.Peak", 4096, notes={"estimator": "e", "values": 3})], [Metric("pkg.Peak", "d")])
    document = json.loads(job.write(tmp_path / "deep" / "job.json").read_text())
    assert document["meta"] == {"pkg.Peak.estimator": "e", "pkg.Peak.values": 3}
    assert list(document) == ["measurements", "blobs", "metrics", "specs", "meta"]
    assert document["measurements"][0]["value"] == 4096.0
    assert Job.read(tmp_path / "deep" / "job.json") == job
    assert Job.read(tmp_path / "deep" / "job.json")["pkg.Peak"].notes == {"estimator": "e", "values": 3}


def test_a_second_measurement_of_a_metric_is_refused_with_both_values():
    job = Job([Measurement("p.A", 1), Measurement("p.B", 2)])
    with pytest.raises(DuplicateMeasurementError, match=r"p\.A: 1 byte \(\w{32}\), and now p\.A: 3 byte"):
        job.insert(Measurement("p.A", 3))
    assert [m.value for m in job.measurements.values()] == [1, 2]
    with pytest.raises(DuplicateMeasurementError):
        Job([Measurement("p.A", 1), Measurement("p.A", 1)])


def test_a_measurement_is_replaced_on_request_and_the_same_one_may_come_again():
    job = Job([Measurement("p.A", 1)])
    job.insert(job["p.A"])
    job.insert(Measurement("p.A", 3), replace=True)
    assert [m.value for m in job.measurements.values()] == [3]


def test_merging_adds_all_parts():
    first = Job([Measurement("p.A", 1)], [Metric("p.A", "a")], meta={"x": 1, "y": 1})
    blob = Blob("b", n=Datum(5))
    first += Job([Measurement("p.B", 2, blobs=[blob])], [Metric("p.B", "b")], meta={"y": 2})
    first.specs.insert(ThresholdSpecification.parse("p.A<5 byte"))
    assert list(first.measurements) == ["p.A", "p.B"]
    assert (list(first.metrics), first.meta, first.blobs) == (["p.A", "p.B"], {"x": 1, "y": 2}, (blob,))


def test_merging_a_second_measurement_of_a_metric_changes_nothing():
    job, other = Job([Measurement("p.A", 1)]), Job([Measurement("p.B", 1), Measurement("p.A", 2)], meta={"z": 1})
    before = job.json
    with pytest.raises(DuplicateMeasurementError):
        job += other
    assert job.json == before
    job.update(other, replace=True)
    assert {name: m.value for name, m in job.measurements.items()} == {"p.A": 2, "p.B": 1}


def test_extras_and_linked_blobs_survive_json(tmp_path):
    shared = Blob("shared", start=Datum("2026", label="when"), sizes=Datum([1.0, 2.0], "MiB"))
    first = Measurement("p.A", 1, blobs=[shared], extras={"node": Datum("n1"), "used": Datum(7, "byte")})
    path = Job([first, Measurement("p.B", 2, blobs=[shared])]).write(tmp_path / "j.json")
    document = json.loads(path.read_text())
    assert [blob["name"] for blob in document["blobs"]] == ["shared", "p.A"]
    assert document["measurements"][1]["blob_refs"] == [shared.identifier]
    assert document["blobs"][1]["data"]["used"]["value"] == 7.0
    found = Job.load(path)
    assert found["p.A"].extras["node"].quantity == "n1"
    assert found["p.B"].blobs["shared"]["sizes"].value == [1.0, 2.0]
    assert found.json == document


def test_a_defined_metric_gives_its_unit_to_the_measurement():
    job = Job([Measurement("p.A", 3 * 2**20)], [Metric("p.A", unit="MiB")])
    assert (job.json["measurements"][0]["value"], job.json["measurements"][0]["unit"]) == (3.0, "MiB")
    with pytest.raises(UnitError, match=r"p\.T is defined in s"):
        Job([Measurement("p.T", 1, "byte")], [Metric("p.T", unit="s")])


def test_the_report_shows_passed_failed_and_unmeasured_metrics():
    job = Job([Measurement("p.A", 600 * 2**20), Measurement("p.N", None, notes={"reason": "no peak"})],
              [Metric("p.A", tags=["memory"])])  # fmt: skip
    for text in ("p.A<500 MiB", "p.A.minimum>1 kB", "p.Gone<1 byte", "p.N<1 byte", "p.A.wrong<5 s"):
        job.specs.insert(ThresholdSpecification.parse(text))
    job.not_measured("p.Gone", "the task never ran")
    report = job.report()
    assert {row.specification: row.status for row in report.rows} == {
        "p.A.less_than": "failed", "p.A.minimum": "passed", "p.A.wrong": "failed", "p.Gone.less_than": "not measured",
        "p.N.less_than": "not measured",
    }  # fmt: skip
    assert not report.passed
    reasons = [row.reason for row in report.rows]
    assert reasons[3:] == ["the task never ran", "no peak"]
    assert "cannot be compared" in str(reasons[2])
    assert "failed        p.A.less_than     629145600 byte (600.0 MiB)  < 500 MiB" in str(report)
    assert report.as_dicts()[0]["metric_tags"] == ("memory",)
    assert "<td>&lt; 500 MiB</td>" in report._repr_html_()
    assert [row.specification for row in job.report("p.N").rows] == ["p.N.less_than"]
    assert len(job.report(metric_tags=["memory"]).rows) == 3


def test_a_specification_for_other_jobs_is_not_in_the_report():
    spec = ThresholdSpecification("p.A.x", Quantity(1, "byte"), "<", metadata_query={"filter": "r"})
    assert Job([Measurement("p.A", 5)], specs=[spec]).report().rows == ()
    assert not Job([Measurement("p.A", 5)], specs=[spec], meta={"filter": "r"}).report().passed


def test_a_missing_value_stays_missing(tmp_path):
    job = Job([Measurement("p.A", None, notes={"reason": "no peak"}), Measurement("p.B", None), Measurement("p.C", 1)])
    document = job.json
    assert [entry["metric"] for entry in document["measurements"]] == ["p.C"]  # lsst.verify cannot read a null
    assert (document["meta"]["p.A.not_measured"], document["meta"]["p.B.not_measured"]) == (
        "no peak",
        "no reason is recorded",
    )
    read = Job.read(job.write(tmp_path / "j.json"))
    read.specs.insert(ThresholdSpecification.parse("p.A<1 byte"))
    assert [(row.status, row.reason) for row in read.report().rows] == [("not measured", "no peak")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Job([5]), "5 cannot be added: give a Measurement"),
        (lambda: Job(specs=["p.A<5 MiB"]), "give a specification, for example from ThresholdSpecification.parse"),
        (lambda: Job(metrics=["p.A"]), "'p.A' cannot be added: give a Metric"),
        (lambda: Job.deserialize([{"metric": "p.A", "value": 1.0}]), "has no identifier, no unit"),
    ],
)
def test_what_does_not_belong_into_a_job_is_named(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_invalid_in_json_is_not_written(tmp_path, value):
    with pytest.raises(SettingError, match=r"p\.A"):
        Job([Measurement("p.A", value)]).write(tmp_path / "j.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\x00\xff", json.dumps(FOREIGN)[:-9].encode(), b'{"measurements": []}',
                json.dumps({**FOREIGN, "measurements": [{"metric": "x"}]}).encode()],
)  # fmt: skip
def test_a_file_without_a_job_is_refused(tmp_path, content):
    path = tmp_path / "j.json"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"j\.json cannot be read as a Job"):
        Job.read(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be written"):
        Job().write(tmp_path / "file" / "j.json")


def test_the_units_are_ones_that_astropy_reads():
    units = pytest.importorskip("astropy.units", reason="astropy, which lsst.verify reads units with, is not installed")
    assert units.Unit(Job([Measurement("p.A", 1)]).json["measurements"][0]["unit"]) == units.byte


@pytest.mark.parametrize("unit", ["bytes", "KB"])
def test_a_unit_that_lsst_refuses_is_refused_here(unit):
    with pytest.raises(ValueError, match=f"'{unit}' is not a unit"):
        Measurement("p.A", 1, unit)
    with pytest.raises(ValueError, match=f"'{unit}' is not a unit"):
        Metric("p.A", unit=unit)


def test_a_job_is_written_to_what_is_there(written_kind, make_target, tmp_path):
    target = make_target(written_kind, tmp_path / "job.json")
    Job.deserialize(**FOREIGN).write(target.path)
    target.check()
    if target.keeps_content:
        assert json.loads(target.content()) == FOREIGN


def test_a_job_does_not_replace_a_folder_or_device(refused_kind, make_target, tmp_path):
    target = make_target(refused_kind, tmp_path / "job.json")
    with pytest.raises(
        SettingError, match=r"cannot be written to .*job\.json: it is a .*Name another file with --output"
    ):
        Job().write(target.path)
    target.check()
