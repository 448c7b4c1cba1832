"""Folders of specifications that inherit from each other: every document is used, or refused or reported."""

from __future__ import annotations

import logging
from itertools import combinations

import pytest
import yaml

from runmem.errors import SettingError
from runmem.verify.errors import SpecificationResolutionError
from runmem.verify.measurement import Measurement
from runmem.verify.name import Name
from runmem.verify.quantity import Quantity
from runmem.verify.spec_documents import merged
from runmem.verify.spec_set import SpecificationPartial, SpecificationSet

PA1 = """\
# a partial that names the metric
---
id: PA1-base
metric: PA1
threshold: {unit: mmag, operator: "<="}
tags: [chromatic]
---
{name: minimum_gri, base: "#PA1-base", threshold: {value: 8.0}}
---
{name: design_gri, base: "#PA1-base", threshold: {value: 5.0}, tags: [design]}
"""
PF1 = """\
id: PF1-base
threshold: {unit: "", operator: "<="}
---
{metric: PF1_design_gri, name: srd, base: "#PF1-base", threshold: {value: 10}}
---
{metric: PF1_minimum_gri, name: srd, base: ["#PF1-base"], threshold: {value: 20}}
"""
CAMERA = """\
id: cfht
metadata_query: {instrument: CFHT, visits: [1, 2]}
---
id: cfht-g
base: "#cfht"
metadata_query: {filter_name: g}
"""
LEAVES = """\
{name: cfht_gri, base: [PF1_design_gri.srd, "camera/cfht#cfht"]}
---
{name: cfht_gri, base: [PF1_minimum_gri.srd, "drp:camera/cfht#cfht"]}
---
{name: cfht_g, base: [PA1.design_gri, "camera/cfht#cfht-g"]}
---
{name: PA1.tight_g, base: drp.PA1.cfht_g, threshold: {value: 1}}
"""


@pytest.fixture
def folder(tmp_path):
    """Return a folder of specifications, where each file needs ones that are read later."""
    place = tmp_path / "package" / "specs" / "drp"
    for name, text in {
        "a/leaves.yaml": LEAVES,
        "camera/cfht.yml": CAMERA,
        "z/PA1.yaml": PA1,
        "z/PF1.yaml": PF1,
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def documents(folder):
    texts = [path.read_text() for path in folder.rglob("*.y*ml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document is not None]


def test_every_document_of_a_folder_becomes_a_specification_or_a_partial(folder):
    specs = SpecificationSet.load_single_package(folder)
    assert len(specs) + len(specs.partials) == len(documents(folder)) == 12
    assert {str(name): spec.test for name, spec in specs.items()} == {
        "drp.PA1.minimum_gri": "<= 8 mmag", "drp.PA1.design_gri": "<= 5 mmag", "drp.PF1_design_gri.srd": "<= 10",
        "drp.PF1_minimum_gri.srd": "<= 20", "drp.PF1_design_gri.cfht_gri": "<= 10",
        "drp.PF1_minimum_gri.cfht_gri": "<= 20", "drp.PA1.cfht_g": "<= 5 mmag", "drp.PA1.tight_g": "<= 1 mmag",
    }  # fmt: skip
    assert all(isinstance(name, Name) and name.is_fq for name in specs)
    tight = specs["drp.PA1.tight_g"]
    assert tight.metadata_query == {"instrument": "CFHT", "visits": [1, 2], "filter_name": "g"}
    assert tight.tags == {"chromatic", "design"}


def test_a_broken_limit_that_inherits_is_reported_as_failed(folder):
    specs = SpecificationSet.load_metrics_package(folder.parent.parent)
    meta = {"instrument": "CFHT", "visits": [1, 2], "filter_name": "g"}
    measured = {"drp.PA1": Measurement("drp.PA1", Quantity(6.0, "mmag"))}
    report = specs.report(measured, "drp.PA1", meta)
    assert {row.specification: row.status for row in report.rows} == {
        "drp.PA1.minimum_gri": "passed", "drp.PA1.design_gri": "failed", "drp.PA1.cfht_g": "failed",
        "drp.PA1.tight_g": "failed",
    }  # fmt: skip
    assert not report.passed


def test_partials_are_in_the_set_by_their_full_names(folder):
    specs = SpecificationSet.load_single_package(folder)
    assert "drp:camera/cfht#cfht-g" in specs
    assert "drp:camera/cfht#gone" not in specs
    assert specs["drp:z/PA1#PA1-base"].json["metric"] == "PA1"
    assert specs.subset("drp.PA1").partials == specs.partials
    del specs["drp:z/PA1#PA1-base"]
    assert "drp:z/PA1#PA1-base" not in specs
    with pytest.raises(KeyError, match="cannot store"):
        specs["drp:a#b"] = SpecificationPartial({"id": "drp:a#c"})


def test_the_order_of_files_and_documents_does_not_matter(tmp_path, folder):
    expected = SpecificationSet.load_single_package(folder)
    found = documents(folder)
    for index, (first, second) in enumerate(combinations(range(len(found)), 2)):
        if index % 7:  # a tenth of all pairs
            continue
        mixed = list(found)
        mixed[first], mixed[second] = mixed[second], mixed[first]
        one = tmp_path / str(index) / "drp"
        one.mkdir(parents=True)
        for number, document in enumerate(mixed):
            bases = document.get("base", [])
            bases = [bases] if isinstance(bases, str) else bases
            names = {base: f"one#{base.rpartition('#')[2]}" if "#" in base else base for base in bases}
            mixed[number] = {**document, **({"base": [names[base] for base in bases]} if bases else {})}
        (one / "one.yaml").write_text(yaml.safe_dump_all(mixed))
        assert dict(SpecificationSet.load_single_package(one)) == dict(expected)


def test_packages_inherit_from_each_other(folder):
    other = folder.parent / "release"
    other.mkdir()
    (other / "base.yaml").write_text(
        "{name: Peak.cfht, base: 'drp:camera/cfht#cfht', threshold: {value: 1, unit: MiB, operator: '<'}}\n"
        "---\n{name: PA1.mine, base: drp.PA1.design_gri}\n"
    )
    specs = SpecificationSet.load_metrics_package(folder.parent.parent)
    assert specs["release.Peak.cfht"].metadata_query["instrument"] == "CFHT"
    assert specs["release.PA1.mine"].test == "<= 5 mmag"
    with pytest.raises(SpecificationResolutionError, match="'drp:camera/cfht#cfht', which does not exist"):
        SpecificationSet.load_metrics_package(folder.parent.parent, subset="release")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: x, base: '#gone'}", "'x' inherits from 'drp:bad#gone', which does not exist"),
        ("{name: PA1.x, base: PA1.gone}", r"'drp\.PA1\.x' inherits from 'drp\.PA1\.gone', which does not exist"),
        ("{id: a, base: '#b'}\n---\n{id: b, base: '#a'}", "circle of others: 'drp:bad#a', 'drp:bad#b'"),
        ("{name: x, threshold: {value: 1, unit: s, operator: '<'}}", "'x' and its bases have no metric"),
        ("{name: x, metric: PA1}", "no value, no unit, no operator"),
        ("{name: PA2.x, metric: PA1}", "contradicts"),
        ("{name: other.PA1.x}", "contradicts 'drp'"),
        ("{name: PA1.x, package: other}", "in the folder of package 'drp'"),
        ("{name: 5}", "give a text"),
        ("{name: PA1.x, base: {a: 1}}", "give the name of a definition"),
        ("{name: PA1.x, base: 'a b#c'}", "not the name of a partial"),
        ("{name: PA1.design_gri, base: '#b', threshold: {value: 6}}\n---\n{id: b, threshold: {unit: s, operator: <}}",
         "'drp.PA1.design_gri' is defined in .*yaml already"),
        ("{id: a}\n---\n{id: a}", "'drp:bad#a' is defined in .*bad.yaml already"),
        ("{name: PA1.x, type: other, threshold: {value: 6, unit: s, operator: <}}", "of type 'other'"),
        ("{name: PA1.x, threshold: {value: 5, unit: s, operator: <, value: 500}}", "'value' is there twice, in line 1"),
        ("{name: PA1.x, metadata_query: r, threshold: {value: 5, unit: s, operator: <}}", "give names and values"),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_used_is_refused_with_its_file(folder, text, message):
    (folder / "bad.yaml").write_text(text + "\n")
    with pytest.raises(SettingError, match=f"(bad|PA1)\\.yaml.*{message}"):
        SpecificationSet.load_single_package(folder)


def test_what_has_no_effect_is_reported(folder, caplog):
    (folder / "more.yaml").write_text(
        "id: more\nprovenance_query: {config: a, config: b}\n---\n"
        "{name: PA1.x, tag: y, threshold: {value: 5, unit: s, operator: <, units: h}}\n"
    )
    (folder.parent / "lost.yaml").write_text("{name: drp.PA1.lost}\n")
    with caplog.at_level(logging.WARNING):
        specs = SpecificationSet.load_metrics_package(folder.parent.parent)
    assert "drp.PA1.x" in specs
    assert (
        "more.yaml: these entries have no effect: 'provenance_query' of drp:more#more, 'tag' of drp.PA1.x, "
        in caplog.text
    )
    assert "'units' of the threshold of drp.PA1.x" in caplog.text
    assert "not read, since in the folder of no package: lost.yaml" in caplog.text


def test_a_single_file_may_have_partials_and_packages(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text(
        "{id: base, threshold: {unit: MiB, operator: <}}\n---\n"
        "- {name: a.Peak.x, base: '#base', threshold: {value: 1}}\n"
        "- {name: a.Peak.y, base: [Peak.x], threshold: {value: 2}}\n"
        "- {name: z, base: a.Peak.x}\n"
    )
    for package in (None, "b"):
        assert sorted(SpecificationSet.load_file(path, package)) == [
            "a.Peak.x", "a.Peak.y", "a.Peak.z" if package is None else "b.Peak.z",
        ]  # fmt: skip


def test_documents_are_merged_and_stay_as_they_are():
    base = {"A": "a", "B": "b", "C": [1, 2], "D": {"a": "a", "c": {"x": 1, "y": 3}}, "E": {"k": "v"}}
    new = {"B": "over", "Z": "new", "C": [3, 2], "D": {"d": "d", "c": {"y": 2}}, "E": "text"}
    copies = yaml.safe_load(yaml.safe_dump([base, new]))
    assert merged(base, new) == {
        "A": "a", "B": "over", "C": [1, 2, 3], "D": {"a": "a", "c": {"x": 1, "y": 2}, "d": "d"}, "E": "text",
        "Z": "new",
    }  # fmt: skip
    assert [base, new] == copies
