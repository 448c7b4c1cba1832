from __future__ import annotations

import uuid

import pytest

from runmem.metrics.measurement import Measurement


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
