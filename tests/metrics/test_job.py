from __future__ import annotations

import json
import math

import pytest

from runmem.errors import SettingError
from runmem.metrics.job import Job
from runmem.metrics.measurement import Measurement, Metric

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
    "specs": [{"name": "pkg.Peak.design"}],
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


def test_the_last_measurement_of_a_metric_wins():
    job = Job([Measurement("p.A", 1), Measurement("p.B", 2)])
    job.insert(Measurement("p.A", 3))
    assert [(m.metric_name, m.value) for m in job.measurements] == [("p.A", 3), ("p.B", 2)]


def test_a_missing_value_stays_missing(tmp_path):
    job = Job([Measurement("p.A", None)])
    assert Job.read(job.write(tmp_path / "j.json"))["p.A"].value is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_json_cannot_hold_is_not_written(tmp_path, value):
    with pytest.raises(SettingError, match=r"p\.A"):
        Job([Measurement("p.A", value)]).write(tmp_path / "j.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\x00\xff", json.dumps(FOREIGN)[:-9].encode(), b'{"measurements": []}',
                json.dumps({**FOREIGN, "measurements": [{"metric": "x"}]}).encode()],
)  # fmt: skip
def test_a_file_that_is_no_job_is_refused(tmp_path, content):
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
    with pytest.raises(ValueError, match=f"'{unit}' is not a unit's name"):
        Measurement("p.A", 1, unit)
    with pytest.raises(ValueError, match=f"'{unit}' is not a unit's name"):
        Metric("p.A", unit=unit)
