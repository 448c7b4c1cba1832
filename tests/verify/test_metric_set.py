from __future__ import annotations

import sys

import pytest

from runmem.errors import SettingError
from runmem.verify.metric import Metric
from runmem.verify.metric_set import MetricSet

YAML = """\
CountWordsMemory:
  name: ignored
  description: >
    Highest peak of count_words.
  unit: MiB
  reference:
    doc: LPM-17
    page: 21
    url: http://ls.st/lpm-17
  tags:
    - memory
    - fast
Wall:
  description: Time of the run.
  unit: s
  tags: [fast]
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "verify_demo" / "metrics"
    folder.mkdir(parents=True)
    (folder / "demo.yaml").write_text(YAML)
    (folder / "other.yaml").write_text("Rate: {description: r, unit: 1 / s}\n")
    return folder.parent


def test_a_package_of_metrics_is_read(package):
    metrics = MetricSet.load_metrics_package(package)
    assert sorted(metrics) == ["demo.CountWordsMemory", "demo.Wall", "other.Rate"]
    metric = metrics["demo.CountWordsMemory"]
    assert (metric.description, metric.unit, metric.tags) == ("Highest peak of count_words.", "MiB", {"memory", "fast"})
    assert metric.reference == "LPM-17, p. 21, http://ls.st/lpm-17"
    assert str(metric) == "demo.CountWordsMemory (MiB): Highest peak of count_words."
    assert sorted(MetricSet.load_metrics_package(package, subset="other")) == ["other.Rate"]
    assert sorted(MetricSet.load_single_package(package / "metrics" / "demo.yaml")) == [
        "demo.CountWordsMemory", "demo.Wall",
    ]  # fmt: skip


def test_a_package_is_found_by_its_name(package, monkeypatch):
    monkeypatch.setenv("VERIFY_OURS_DIR", str(package))
    assert len(MetricSet.load_metrics_package("verify_ours")) == 3
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    assert len(MetricSet.load_metrics_package("verify_demo")) == 3
    sys.modules.pop("verify_demo", None)
    with pytest.raises(SettingError, match=r"'verify_nowhere' has no folder 'metrics'.*VERIFY_NOWHERE_DIR"):
        MetricSet.load_metrics_package("verify_nowhere")


def test_metrics_are_chosen_by_package_and_tags(package):
    metrics = MetricSet.load_metrics_package(package)
    assert sorted(metrics.subset("demo", ["fast"])) == ["demo.CountWordsMemory", "demo.Wall"]
    assert sorted(metrics.subset(tags=["fast", "memory"])) == ["demo.CountWordsMemory"]
    assert sorted(metrics.subset("other")) == ["other.Rate"]
    assert len(metrics.subset()) == 3


def test_what_is_written_is_read_again(package, tmp_path):
    metrics = MetricSet.load_metrics_package(package)
    files = metrics.write(tmp_path / "copy")
    assert [file.name for file in files] == ["demo.yaml", "other.yaml"]
    assert dict(MetricSet.load_metrics_package(tmp_path / "copy")) == dict(metrics)
    assert dict(MetricSet.deserialize(metrics.json)) == dict(metrics)


def test_sets_merge_the_later_definition_winning():
    first = MetricSet([Metric("p.A", "old"), Metric("p.B")])
    first += MetricSet([Metric("p.A", "new"), Metric("p.C")])
    assert (sorted(first), first["p.A"].description) == (["p.A", "p.B", "p.C"], "new")
    with pytest.raises(SettingError, match=r"cannot store .* as 'p\.X'"):
        first["p.X"] = Metric("p.A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected names of metrics"),
        ("A: text", "metric 'A' is 'text'"),
        ("A: {unit: s}", "metric 'A' has no description"),
        ("A: {description: d, unit: KB}", "'KB' is not a unit.*'kB'"),
        ("A: {description: d, unit: s, tag: x}", "metric 'A'.*tag"),
        ("a.b.c: {description: d, unit: s}", "not of a metric"),
        ("A: !!python/object/apply:os.getcwd []", "is not YAML.*line 1"),
        ("A: {", "is not YAML.*line 2"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_definition_that_is_not_valid_is_named_with_its_file(tmp_path, text, message):
    path = tmp_path / "demo.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SettingError, match=rf"demo\.yaml.*{message}"):
        MetricSet.load_single_package(path)


def test_metrics_are_written_to_what_is_there(written_kind, make_target, package, tmp_path):
    target = make_target(written_kind, tmp_path / "out" / "metrics" / "demo.yaml")
    metrics = MetricSet.load_single_package(package / "metrics" / "demo.yaml")
    metrics.write(tmp_path / "out")
    target.check()
    if target.keeps_content:
        (tmp_path / "again").mkdir()
        (tmp_path / "again" / "demo.yaml").write_bytes(target.content())
        assert MetricSet.load_single_package(tmp_path / "again" / "demo.yaml").json == metrics.json


def test_metrics_do_not_replace_a_folder_or_device(refused_kind, make_target, package, tmp_path):
    target = make_target(refused_kind, tmp_path / "out" / "metrics" / "demo.yaml")
    with pytest.raises(SettingError, match="metrics cannot be written to .*: it is a "):
        MetricSet.load_metrics_package(package).write(tmp_path / "out")
    target.check()
