from __future__ import annotations

import uuid

import numpy as np
import pytest

from runmem.verify import quantity as quantities
from runmem.verify.blob import Blob
from runmem.verify.datum import Datum
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.quantity import Quantity, UnitError


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (327745536, "byte", "demo.Peak: 327745536 byte (312.6 MiB)"),
        (12, "byte", "demo.Peak: 12 byte"),
        (1.5, "s", "demo.Peak: 1.5 s"),
        (None, "byte", "demo.Peak: -"),
    ],
)
def test_the_text_gives_the_value_with_its_unit(value, unit, text):
    assert str(Measurement("demo.Peak", value, unit)) == text


def test_each_measurement_has_an_identifier_of_its_own():
    first, second = Measurement("demo.Peak", 1), Measurement("demo.Peak", 1)
    assert uuid.UUID(hex=first.identifier).version == 4
    assert len(first.identifier) == 32
    assert first.identifier != second.identifier


@pytest.fixture
def without_astropy(monkeypatch):
    monkeypatch.setattr(quantities, "astropy_units", lambda: None)


def test_the_quantity_is_astropys_and_converts():
    units = pytest.importorskip("astropy.units", reason="astropy is not installed")
    measurement = Measurement("demo.Peak", 3 * units.MiB)
    assert measurement.quantity == 3 * 2**20 * units.byte
    assert measurement.quantity.to(units.kbyte).value == pytest.approx(3145.728)
    assert (measurement.value, units.Unit(measurement.json["unit"])) == (3, units.MiB)
    measurement.quantity = np.float64(1.5) * units.s
    assert (measurement.json["value"], measurement.unit) == (1.5, "s")


@pytest.mark.usefixtures("without_astropy")
def test_without_astropy_the_quantity_is_a_small_one_that_converts():
    measurement = Measurement("demo.Peak", Quantity(3, "MiB"))
    assert str(measurement.quantity.to("byte")) == "3145728.0 byte"
    assert measurement.quantity > Quantity(3, "MB")
    assert measurement.quantity == Quantity(3 * 2**20, "byte")
    with pytest.raises(UnitError, match="MiB cannot be compared with one in s"):
        measurement.quantity.to("s")
    assert Measurement("demo.Sky", 1.0, "mag").quantity.unit == "mag"


def test_a_value_that_does_not_fit_the_definition_is_refused_and_nothing_changes():
    metric = Metric("demo.Peak", "highest", "MiB")
    measurement = Measurement(metric, 5)
    assert (measurement.unit, measurement.description) == ("MiB", "highest")
    with pytest.raises(UnitError, match=r"demo\.Peak is defined in MiB"):
        measurement.quantity = Quantity(1, "s")
    assert (measurement.value, measurement.unit) == (5, "MiB")
    other = Measurement("demo.Peak", 1, "s")
    with pytest.raises(UnitError):
        other.metric = metric
    assert other.metric is None


def test_equal_values_in_other_units_are_equal():
    assert Measurement("demo.Peak", 1024) == Measurement("demo.Peak", 1, "KiB")
    assert Measurement("demo.Peak", 1024) != Measurement("demo.Peak", 1, "kB")
    assert Measurement("demo.Peak", 1) != Measurement("demo.Peak", None)
    assert Measurement("demo.Peak", 1) != Measurement("demo.Other", 1)
    assert Measurement("demo.Peak", 1) != Measurement("demo.Peak", 1, "s")


def test_extras_have_a_blob_of_the_metrics_name():
    measurement = Measurement("demo.Peak", 1, extras={"node": Datum("n1")})
    measurement.link_blob(Blob("empty"))
    assert measurement.extras is measurement.blobs["demo.Peak"]
    assert measurement.blob_refs == [measurement.extras.identifier]
    assert measurement.datum.label == "demo.Peak"


@pytest.mark.parametrize("name", ["a.b.c.d", "a. b", ""])
def test_a_name_that_is_not_of_a_metric_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        Measurement(name, 1)


@pytest.mark.parametrize("value", ["5", "much", [1, 2], True, object()])
def test_a_value_that_is_not_one_number_is_refused_with_the_metric(value):
    with pytest.raises(ValueError, match="demo.Peak = .* is not a number"):
        Measurement("demo.Peak", value)


def test_a_measurement_is_not_of_a_specification():
    with pytest.raises(ValueError, match="name of a specification, not of a metric"):
        Measurement("demo.Peak.design", 1)
