from __future__ import annotations

import numpy as np
import pytest

from runmem.verify.blob import Blob
from runmem.verify.datum import Datum
from runmem.verify.quantity import Quantity


@pytest.mark.parametrize(
    ("datum", "value", "unit"),
    [
        (Datum("2026"), "2026", ""),
        (Datum(True), True, ""),
        (Datum(None), None, ""),
        (Datum(5), 5, ""),
        (Datum(5, "byte"), 5.0, "byte"),
        (Datum(1.5, ""), 1.5, ""),
        (Datum(Quantity(2.5, "MiB"), label="l", description="d"), 2.5, "MiB"),
        (Datum([1, 2], "s"), [1, 2], "s"),
        (Datum(np.array([1.0, 2.0]), "s"), [1.0, 2.0], "s"),
    ],
)
def test_a_datum_survives_json(datum, value, unit):
    assert (datum.json["value"], datum.json["unit"]) == (value, unit)
    assert Datum.from_json(datum.json) == datum


def test_the_value_has_its_unit_as_a_quantity():
    assert Datum(2, "KiB").quantity == Quantity(2048, "byte")
    assert Datum("text").quantity == "text"
    assert Datum(7).quantity == 7
    assert str(Datum(2.5, "s", label="wall", description="of the task")) == "wall = 2.5 s\nof the task"


def test_astropys_quantity_is_taken_as_it_is():
    units = pytest.importorskip("astropy.units", reason="astropy is not installed")
    assert Datum([1.0, 2.0] * units.s).json["value"] == [1.0, 2.0]
    assert Datum(1.0 * units.Unit("")).json == {"value": 1.0, "unit": "", "label": None, "description": None}


@pytest.mark.parametrize(
    ("arguments", "message"), [((1.5,), "has no unit"), (([1.0],), "has no unit"), (({},), "dict"), ((1, "KB"), "'kB'")]
)
def test_invalid_values_of_a_datum_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Datum(*arguments)


def test_a_blob_accepts_only_data_and_survives_json():
    blob = Blob("b", a=Datum(1))
    blob["c"] = Datum("x")
    assert Blob.deserialize(**blob.json) == blob
    with pytest.raises(ValueError, match="'d' is 5"):
        blob["d"] = 5  # type: ignore[assignment]
    with pytest.raises(ValueError, match="name of a blob"):
        Blob(5)  # type: ignore[arg-type]
