from __future__ import annotations

import pytest

from runmem.verify.name import Name


@pytest.mark.parametrize(
    "name",
    [
        Name("demo.Peak.design"),
        Name("demo", "Peak", "design"),
        Name(package="demo", spec="Peak.design"),
        Name(metric="demo.Peak", spec="design"),
        Name("demo", spec="demo.Peak.design"),
    ],
)
def test_the_parts_join_to_one_name_however_they_are_given(name):
    assert name == "demo.Peak.design"
    assert (name.package, name.metric, name.spec, name.is_spec) == ("demo", "Peak", "design", True)
    assert name.metric_name == "demo.Peak"
    assert name.metric_name.is_metric
    assert name.belongs_to("demo.Peak")
    assert not name.belongs_to("demo.Pea")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"metric": "Peak"}, "has no package"),
        ({"package": "demo", "spec": "design"}, "no metric"),
        ({"package": "demo", "metric": "other.Peak"}, "contradicts 'demo'"),
        ({"package": "a b"}, "is not a name"),
        ({"package": "a..b"}, "is not a name"),
        ({"package": "a.b.c.d"}, "is not a name"),
        ({}, "is not a name"),
    ],
)
def test_invalid_names_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Name(**parts)
