"""The sets in a Job behave as those of lsst.verify, and what is added to them is in the Job."""

from __future__ import annotations

import pickle

import pytest

from runmem.errors import SettingError
from runmem.verify import (
    Blob,
    BlobSet,
    Datum,
    DuplicateMeasurementError,
    Job,
    Measurement,
    MeasurementSet,
    Metric,
    MetricSet,
    Name,
    Quantity,
    SpecificationSet,
    ThresholdSpecification,
    UnitError,
)

LIMIT = ThresholdSpecification.parse("p.A.x<5 byte")


def test_what_is_added_to_a_set_of_a_job_is_in_the_job():
    job = Job()
    job.metrics.insert(Metric("p.A", "a", "KiB"))
    job.specs.insert(LIMIT)
    job.measurements.insert(Measurement("p.A", 2048, notes={"method": "hwm"}))
    job.measurements["p.B"] = Measurement(Metric("p.B", "b"), 1)
    document = job.json
    assert [(entry["metric"], entry["value"]) for entry in document["measurements"]] == [("p.A", 2.0), ("p.B", 1.0)]
    assert [entry["name"] for entry in document["metrics"]] == ["p.A", "p.B"]
    assert document["specs"] == job.specs.json == [LIMIT.json]
    assert document["meta"] == {"p.A.method": "hwm"}
    assert job["p.A"].metric is job.metrics["p.A"]
    del job.measurements["p.A"]
    assert ("p.A" in job, job.json["meta"]) == (False, {})


def test_a_set_that_a_job_is_made_from_stays_its_set():
    measurements = MeasurementSet()
    job = Job(measurements, [Metric("p.A", unit="s")])
    measurements.insert(Measurement("p.A", 1, "min"))
    assert job.json["measurements"][0]["value"] == 60
    with pytest.raises(UnitError, match=r"p\.A is defined in s"):
        measurements["p.A"] = Measurement("p.A", 1, "byte")
    assert job["p.A"].unit == "min"


@pytest.mark.parametrize("part", ["measurements", "metrics", "specs", "meta", "blobs"])
def test_a_part_of_a_job_can_be_neither_replaced_nor_appended_to(part):
    job = Job()
    with pytest.raises(AttributeError):
        setattr(job, part, [])
    with pytest.raises(AttributeError):
        getattr(job, part).append(Measurement("p.A", 1))


@pytest.mark.parametrize(
    ("items", "name", "kind"),
    [
        (MeasurementSet([Measurement("p.A", 1)]), "p.A", "Measurement"),
        (MetricSet([Metric("p.A")]), "p.A", "Metric"),
        (SpecificationSet([LIMIT]), "p.A.x", "Specification"),
    ],
)
def test_a_set_maps_names_to_items(items, name, kind):
    assert (name in items, Name(name) in items, "p.Gone" in items) == (True, True, False)
    assert (list(items), list(items.keys()), len(items)) == ([name], [name], 1)
    assert all(isinstance(key, Name) for key in items)
    item = items[name]
    assert items[Name(name)] is item
    assert list(items.items()) == [(name, item)]
    assert str(items) == f"<{type(items).__name__}: 1 {kind}>"
    assert str(type(items)()) == f"<{type(items).__name__}: empty>"
    assert len(type(items).deserialize(items.json)) == 1
    assert pickle.loads(pickle.dumps(items)) == items
    with pytest.raises(KeyError, match=r"cannot store .* as 'p\.Other': its name is"):
        items["p.Other"] = item
    with pytest.raises(TypeError, match="cannot store 5"):
        items[name] = 5
    with pytest.raises(TypeError, match="5 cannot be added: give a"):
        items.insert(5)
    more = type(items)()
    more += items
    assert more == items
    del more[name]
    assert more != items
    with pytest.raises(KeyError):
        more[name]


def test_a_set_of_measurements_refuses_a_second_one_unless_it_replaces_the_first():
    first, second = Measurement("p.A", 1), Measurement("p.A", 2)
    measurements = MeasurementSet([first, first])
    with pytest.raises(DuplicateMeasurementError, match="replace=True"):
        measurements.insert(second)
    with pytest.raises(DuplicateMeasurementError):
        measurements.update([Measurement("p.B", 1), second])
    assert list(measurements) == ["p.A"]
    measurements.update([Measurement("p.B", 1), second], replace=True)
    assert [measurement.value for measurement in measurements.values()] == [2, 1]
    measurements["p.A"] = first
    assert measurements["p.A"] is first


def test_definitions_are_attached_to_measurements_later():
    measurements = MeasurementSet([Measurement("p.A", 2048), Measurement("p.B", 1)])
    metrics = MetricSet([Metric("p.A", unit="KiB")])
    measurements.refresh_metrics(metrics)
    assert (measurements["p.A"].metric, measurements["p.B"].metric) == (metrics["p.A"], None)
    read = MeasurementSet.deserialize(measurements.json, metric_set=metrics)
    assert (read["p.A"].metric, read["p.A"].value) == (metrics["p.A"], 2.0)
    with pytest.raises(SettingError, match="unknown entry 'units'"):
        MeasurementSet.deserialize([{**measurements.json[0], "units": "s"}])


def test_the_metadata_of_a_job_show_the_notes_of_its_measurements():
    job = Job([Measurement("p.A", 1, notes={"method": "hwm"})], meta={"camera": "c", "p.A.more": 1, "p.B.why": "?"})
    assert dict(job.meta) == {"camera": "c", "p.B.why": "?", "p.A.method": "hwm", "p.A.more": 1}
    assert job["p.A"].notes == {"method": "hwm", "more": 1}
    job.meta["p.A.method"] = "sampled"
    job.meta.update(camera="d")
    assert (job["p.A"].notes["method"], job.meta["camera"], len(job.meta)) == ("sampled", "d", 4)
    del job.meta["p.A.method"], job.meta["camera"]
    assert ("method" in job["p.A"].notes, "camera" in job.meta, "p.A.more" in job.meta) == (False, False, True)
    job.insert(Measurement("p.B", 2, notes={"method": "hwm"}))
    assert job.json["meta"] == job.meta.json == {"p.B.why": "?", "p.A.more": 1, "p.B.method": "hwm"}
    assert '"p.A.more": 1' in str(job.meta)
    with pytest.raises(KeyError):
        job.meta["gone"]


def test_a_specification_may_ask_for_a_note():
    spec = ThresholdSpecification("p.A.x", Quantity(1, "byte"), "<", metadata_query={"p.A.method": "hwm"})
    job = Job([Measurement("p.A", 5, notes={"method": "hwm"})], specs=[spec])
    assert [row.status for row in job.report().rows] == ["failed"]
    job["p.A"].notes["method"] = "sampled"
    assert job.report().rows == ()


def test_notes_are_found_with_and_without_the_name_of_the_metric():
    notes = Measurement("p.A", 1, notes={"p.A.a": 1, "b": 2}).notes
    notes["p.A.c"] = 3
    notes |= {"p.A.d": 4}
    assert notes == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert (notes["p.A.a"], notes["a"], "p.A.b" in notes, notes.get("p.A.b"), notes.pop("p.A.b")) == (1, 1, True, 2, 2)
    assert notes.setdefault("p.A.a", 9) == 1
    del notes["p.A.a"]
    assert pickle.loads(pickle.dumps(notes)) == {"c": 3, "d": 4}


def test_a_measurement_takes_the_name_of_its_definition():
    measurement = Measurement("A", 3, notes={"n": 1}, extras={"e": Datum(1)})
    assert (measurement.metric_name, measurement.metric) == (Name(metric="A"), None)
    with pytest.raises(TypeError, match="give a Metric"):
        measurement.metric = "p.A"
    with pytest.raises(UnitError):
        measurement.metric = Metric("p.T", unit="s")
    measurement.metric = Metric("p.A", unit="KiB")
    assert (measurement.metric_name, measurement.notes["p.A.n"], len(measurement.extras)) == ("p.A", 1, 1)
    assert list(measurement.blobs) == ["p.A"]


def test_a_missing_value_has_no_unit_in_json_and_may_follow():
    measurement = Measurement(Metric("p.A", unit="KiB"))
    assert (measurement.json["value"], measurement.json["unit"]) == (None, None)
    measurement.quantity = Quantity(2, "MiB")
    assert (measurement.json["value"], measurement.json["unit"]) == (2048.0, "KiB")
    with pytest.raises(TypeError, match="is not a Blob"):
        measurement.link_blob(5)


def test_blobs_are_found_by_identifier_and_name():
    first, second = Blob("one", a=Datum(1)), Blob("two", b=Datum(2))
    blobs = BlobSet([first])
    assert ("one" in blobs, first.identifier in blobs, "two" in blobs) == (True, True, False)
    assert blobs["one"] is blobs[first.identifier] is first
    with pytest.raises(KeyError, match="its identifier is"):
        blobs["two"] = second
    blobs.insert(second)
    assert (list(blobs.values()), list(blobs)) == ([first, second], [first.identifier, second.identifier])
    assert BlobSet.deserialize(blobs.json) == blobs
    del blobs["one"]
    assert str(blobs) == "<BlobSet: 1 Blob>"
    with pytest.raises(TypeError, match="give a Blob"):
        blobs.insert(5)
    with pytest.raises(KeyError):
        blobs["one"]
    measurement = Measurement.deserialize("p.A", value=1, unit="byte", blobs=blobs)
    assert measurement.blobs["two"] is second
    with pytest.raises(KeyError, match="is not a text"):
        first[5] = Datum(1)


def test_a_definition_may_be_changed_but_not_to_something_invalid():
    metric = Metric("p.A", unit="s", tags="fast")
    metric.tags = "slow"
    metric.unit_str = "ms"
    assert (metric.tags, metric.unit, metric.unit_str) == ({"slow"}, "ms", "ms")
    with pytest.raises(UnitError):
        metric.unit = "sec"
    with pytest.raises(TypeError, match="not of a metric"):
        metric.name = "p.A.x"
    spec = ThresholdSpecification.parse("p.A.x<5 byte")
    spec.operator_str = ">"
    assert spec.check(Quantity(6, "byte"))
    with pytest.raises(TypeError, match="'=>' is not an operator"):
        spec.operator_str = "=>"
    with pytest.raises(SettingError, match="other entries than doc, page and url"):
        Metric.deserialize("p.A", "d", "s", reference={"link": "x"})
    with pytest.raises(TypeError, match="has no unit"):
        ThresholdSpecification("p.A.x", 5.0, "<")


def test_a_datum_takes_other_quantities():
    datum = Datum(Quantity(5.0, "KiB"), "not used", label="l")
    assert (datum.unit, datum.unit_str, datum.value) == ("KiB", "KiB", 5.0)
    datum.quantity = "text"
    assert (datum.unit, datum.unit_str, datum.quantity, datum.label) == (None, "", "text", "l")
    with pytest.raises(ValueError, match="has no unit"):
        datum.quantity = 5.0
    assert datum.value == "text"


def test_specifications_are_chosen_by_what_they_ask_for():
    specs = SpecificationSet(
        ThresholdSpecification(name, Quantity(1, "byte"), "<", tags, query)
        for name, tags, query in (
            ("p.A.r", ["a"], {"filter": "r"}),
            ("p.A.i", ["a", "b"], {"filter": "i"}),
            ("p.A.hsc", [], {"filter": "r", "camera": "hsc"}),
            ("p.B.any", "b", None),
        )
    )
    metrics = MetricSet([Metric("p.B", tags="memory")])
    chosen = {
        "name": specs.subset("p.A"),
        "one": specs.subset("p.A.i"),
        "meta": specs.subset(meta={"filter": "r", "visit": 1}),
        "required": specs.subset(required_meta={"filter": "r"}),
        "both": specs.subset("p.A", {"filter": "r"}, {"filter": "r"}),
        "tags": specs.subset(spec_tags=["a", "b"]),
        "metric": specs.subset(metric_tags=["memory"], metrics=metrics),
        "all": specs.subset(),
    }
    assert {key: " ".join(name.spec for name in found) for key, found in chosen.items()} == {
        "name": "r i hsc", "one": "i", "meta": "r any", "required": "r hsc", "both": "r", "tags": "i", "metric": "any",
        "all": "r i hsc any",
    }  # fmt: skip
    with pytest.raises(SettingError, match="pass metrics"):
        specs.subset(metric_tags=["memory"])


def test_sets_and_reports_have_tables_for_notebooks(capsys):
    job = Job([Measurement("p.A", 4)], [Metric("p.A", "<a>", tags=["t"])], [LIMIT])
    assert "<td>&lt;a&gt;</td><td>byte</td>" in job.metrics._repr_html_()
    assert "<td>p.A.x</td><td>&lt; 5 byte</td>" in job.specs._repr_html_()
    assert "<td>passed</td>" in job.report()._repr_html_()
    job.report().show()
    assert "passed  p.A.x" in capsys.readouterr().out


def test_a_report_makes_the_table_of_lsst_verify():
    pytest.importorskip("astropy.table", reason="astropy is not installed")
    specs = [LIMIT, ThresholdSpecification.parse("p.A.y>5 byte"), ThresholdSpecification.parse("p.Gone<1 byte")]
    table = Job([Measurement("p.A", 4)], specs=specs).report().make_table()
    assert table.colnames == ["Status", "Specification", "Measurement", "Test", "Metric Tags", "Spec. Tags"]
    assert list(table["Status"]) == ["\u2705", "\u274c", "not measured"]
    assert list(table["Specification"]) == ["p.A.x", "p.A.y", "p.Gone.less_than"]
    assert table["Measurement"][0] == r"4.0 $\mathrm{byte}$"
    assert list(table["Metric Tags"]) == ["N/A", "N/A", ""]


def test_units_that_do_not_fit_raise_astropys_error_too():
    units = pytest.importorskip("astropy.units", reason="astropy is not installed")
    with pytest.raises(units.UnitConversionError, match=r"p\.A\.x < 5 byte") as caught:
        LIMIT.check(3 * units.s)
    assert isinstance(caught.value, UnitError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_equal_specifications_have_equal_limits_in_any_unit():
    def limit(value, unit, operator="<", **more):
        return ThresholdSpecification("p.A.x", Quantity(value, unit), operator, **more)

    assert limit(1, "KiB") == limit(1024, "byte")
    others = [limit(1, "kB"), limit(1, "KiB", ">"), limit(1, "KiB", tags="t"), limit(1, "s"),
              limit(1, "KiB", metadata_query={"a": 1})]  # fmt: skip
    assert all(other != limit(1, "KiB") for other in others)


def test_a_specification_without_metric_is_not_measured():
    report = Job(specs=[ThresholdSpecification("alone", Quantity(1, "byte"), "<")]).report()
    assert [(row.status, row.reason) for row in report.rows] == [
        ("not measured", "there is no measurement of a metric: the specification names none")
    ]


def test_a_package_that_is_missing_is_an_os_error(tmp_path):
    for load in (MetricSet.load_metrics_package, SpecificationSet.load_metrics_package, Job.load_metrics_package):
        with pytest.raises(OSError, match="has no folder"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": "A: {description: d, unit: s}\nA: {description: e, unit: s}\n"}, "'A' is there twice, in line 2"),
        ({"a.yaml": "A: {description: d, unit: s}\n---\nA: {description: e, unit: s}\n"}, "in two documents"),
        ({"a.yaml": "A: {description: d, unit: s}\n", "a.yml": "B: {description: e, unit: s}\n"}, "same package"),
    ],
)
def test_a_metric_that_would_be_lost_is_refused(tmp_path, files, message):
    (tmp_path / "metrics").mkdir()
    for name, text in files.items():
        (tmp_path / "metrics" / name).write_text(text)
    with pytest.raises(SettingError, match=message):
        MetricSet.load_metrics_package(tmp_path)


def test_both_endings_of_yaml_files_are_read(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "a.yml").write_text("A: {description: d, unit: s}\n")
    (tmp_path / "metrics" / "b.yaml").write_text("A: &a {description: d, unit: s}\nB: {<<: *a, description: e}\n")
    assert list(MetricSet.load_metrics_package(tmp_path)) == ["a.A", "b.A", "b.B"]
    assert list(MetricSet.load_metrics_package(tmp_path, "a")) == ["a.A"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A: {description: d, unit: s}\nA: {description: e, unit: s}\n", "'A' is there twice, in line 2"),
        ("A: [", "the definitions are not YAML"),
        ("A: {description: d, unit: s}\n---\nB: {description: e, unit: s}\n", "expected names of metrics"),
    ],
)
def test_a_text_of_metrics_is_checked_as_a_file(text, message):
    with pytest.raises(SettingError, match=message):
        MetricSet.parse(text, "a")
    assert list(MetricSet.parse("A: {description: d, unit: s}", "a")) == ["a.A"]
