from __future__ import annotations

import math
import resource

import pytest

from runmem.errors import RunmemError
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricTask
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.pipe_base.metadata import TaskMetadata

KEY = "demo:sub.runEndMaxResidentSetSize"


def task(target: str = "demo:sub.run") -> MemoryMetricTask:
    config = MemoryMetricConfig()
    config.connections.package = "pkg"
    config.connections.metric = "SubMemory"
    config.target = target
    return MemoryMetricTask(config=config)


def metadata(values: object, **more: object) -> dict[str, object]:
    return {KEY: values, **{f"demo:sub.{name}": value for name, value in {"__version__": 1, **more}.items()}}


def test_the_value_is_in_bytes_under_the_metrics_name():
    measurement = task().run(metadata([4096])).measurement
    assert (measurement.metric_name, measurement.value, measurement.unit) == ("pkg.SubMemory", 4096, "byte")


def test_of_several_values_the_maximum_is_taken_and_their_number_noted():
    measurement = task().run(metadata([3, 9, 5])).measurement
    assert measurement.value == 9
    assert measurement.notes["values"] == "the maximum of 3 values"


def test_the_target_may_be_the_end_of_the_name():
    assert task("run").run(metadata([7])).measurement.value == 7


def test_a_path_a_mapping_and_metadata_give_the_same(tmp_path):
    content = TaskMetadata.from_dict(metadata([5, 6]))
    path = tmp_path / "metadata.json"
    path.write_text(content.to_json())
    found = [
        task().run(m).measurement.value for m in (content, content.to_json_form(), content.to_dict(), path, str(path))
    ]
    assert found == [6] * 5


@pytest.mark.parametrize("empty", [None, {}, {"demo:sub.walkEndMaxResidentSetSize": [1]}])
def test_metadata_without_the_target_raise_no_work_found(empty):
    with pytest.raises(NoWorkFound, match="demo:sub.runEndMaxResidentSetSize"):
        task().run(empty)


def test_a_target_without_a_measured_peak_raises():
    with pytest.raises(NoWorkFound, match="no execution of demo:sub.run has a measured peak"):
        task().run({"demo:sub.runPeaksMissing": 3})


def test_an_ambiguous_target_lists_what_it_fits():
    two = metadata([1]) | {"demo:other.runEndMaxResidentSetSize": [2]}
    with pytest.raises(MetricComputationError, match=r"ambiguous.*demo:other\.run.*demo:sub\.run"):
        task("run").run(two)


@pytest.mark.parametrize(
    "value",
    [math.inf, -math.inf, math.nan, -1, 0, "4096.0", "four", "", True, 10**400, [], ["a"], [1.0, math.nan], [-5, 9]],
)
def test_a_malformed_value_is_named_with_its_key(value):
    with pytest.raises(MetricComputationError, match=r"invalid metadata: demo:sub\.runEndMaxResidentSetSize = "):
        task().run(metadata(value))


@pytest.mark.parametrize(("value", "size_bytes"), [("4096", 4096), (" 12 ", 12), (["5", "40"], 40)])
def test_a_text_that_is_a_whole_number_is_taken_with_a_note(value, size_bytes):
    measurement = task().run(metadata(value)).measurement
    assert measurement.value == size_bytes
    assert int(measurement.notes["number_given_as_text"]) == size_bytes


@pytest.mark.parametrize("value", [None, [None], [1, "2"], [1, 2.0], [[1]], {1, 2}])
def test_an_invalid_metadata_value_is_named_with_its_key(value):
    with pytest.raises(MetricComputationError, match=r"invalid metadata: demo:sub\.runEndMaxResidentSetSize = "):
        task().run(metadata(value))


@pytest.mark.parametrize("version", ["1", "one", -1, math.nan, math.inf, 1.5, True, [1, 2]])
def test_an_odd_version_is_named_with_its_key(version):
    with pytest.raises(MetricComputationError, match=r"demo:sub\.__version__ = .*version"):
        task().run(metadata([1], __version__=version))


@pytest.mark.parametrize("version", [1, 2, 1.0, [1]])
def test_from_version_one_the_unit_is_the_byte_on_every_platform(version):
    assert task().run(metadata([10], __version__=version, platform="linux")).measurement.value == 10


@pytest.mark.parametrize("version", [0, "", []])
@pytest.mark.parametrize(
    ("platform", "size_bytes"),
    [("linux", 10 * 1024), ("darwin", 10), ("sunos5", 10 * 8192), ("freebsd14", 10 * 1024)],
)
def test_before_version_one_the_unit_is_that_of_the_writers_platform(version, platform, size_bytes):
    measurement = task().run(metadata([10], __version__=version, platform=platform, pageSize=8192)).measurement
    assert measurement.value == size_bytes
    assert "unit_assumed" not in measurement.notes


def test_the_platform_may_be_in_a_level_above_and_an_unknown_page_size_is_noted():
    measurement = task().run({KEY: [10], "platform": "solaris"}).measurement
    assert measurement.value == 10 * resource.getpagesize()
    assert str(resource.getpagesize()) in measurement.notes["page_size_assumed"]


def test_an_unknown_platform_is_noted():
    assert "platform" in task().run({KEY: [10]}).measurement.notes["unit_assumed"]


def test_only_the_version_beside_the_value_counts():
    two_levels = {KEY: [10], "demo:sub.platform": "linux", "__version__": 1, "demo:other.__version__": 1}
    assert task().run(two_levels).measurement.value == 10 * 1024


def test_an_unreadable_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(MetricComputationError, match=r"gone\.json"):
        task().run(tmp_path / "gone.json")
    (tmp_path / "torn.json").write_bytes(b'{"scalars": {"a\x00')
    with pytest.raises(MetricComputationError, match="invalid metadata"):
        task().run(tmp_path / "torn.json")


@pytest.mark.parametrize("part", ["package", "metric"])
@pytest.mark.parametrize(("value", "message"), [("a.b", "dot"), ("", "name"), (None, "name")])
def test_a_package_or_metric_without_a_plain_name_is_refused(part, value, message):
    config = MemoryMetricConfig(target="run")
    config.connections.package, config.connections.metric = "pkg", "Metric"
    setattr(config.connections, part, value)
    with pytest.raises(ValueError, match=f"connections.{part} is .*{message}"):
        MemoryMetricTask(config=config)


def test_a_target_is_required():
    config = MemoryMetricConfig()
    config.connections.package, config.connections.metric = "pkg", "Metric"
    with pytest.raises(ValueError, match="target is None"):
        MemoryMetricTask(config=config)


def test_an_unknown_option_is_refused_at_once():
    with pytest.raises(AttributeError):
        MemoryMetricConfig().taget = "run"  # type: ignore[attr-defined]


def test_the_names_of_input_and_output_follow_the_connections():
    config = MemoryMetricConfig()
    config.connections.package, config.connections.metric = "pkg", "Metric"
    config.connections.labelName = "isr"
    assert (config.connections.inputName, config.connections.outputName) == ("isr_metadata", "metricvalue_pkg_Metric")
    config.connections.metadata = "old_metadata"
    assert config.connections.inputName == "old_metadata"


def test_both_errors_are_runmems_and_keep_the_kinds_that_callers_catch():
    assert {RunmemError, RuntimeError} <= set(MetricComputationError.__mro__)
    assert {RunmemError, LookupError} <= set(NoWorkFound.__mro__)


@pytest.mark.parametrize(("platform", "factor"), [("darwin", 1), ("Darwin", 1), ("Linux", 1024), ("SunOS", 8192)])
def test_the_platform_may_be_spelled_as_either_module_does(platform, factor):
    content = {KEY: [100], "demo:sub.platform": platform, "demo:sub.pageSize": 8192.0}
    assert task().run(content).measurement.value == 100 * factor


@pytest.mark.parametrize("value", ["4096", True, 0, -4096, 0.5])
def test_an_invalid_page_size_is_an_error(value):
    content = {KEY: [100], "demo:sub.platform": "sunos5", "demo:sub.pageSize": value}
    with pytest.raises(MetricComputationError, match=f"pageSize = {value!r} is not a number of bytes"):
        task().run(content)


@pytest.mark.parametrize("value", ["", 5])
def test_an_invalid_platform_is_an_error(value):
    with pytest.raises(MetricComputationError, match=f"platform = {value!r} is not the name"):
        task().run({KEY: [100], "demo:sub.platform": value})


def test_what_makes_the_measurement_gets_the_names_of_lsst_verify_and_nothing_else():
    received = []

    class Asking(MemoryMetricTask):
        def makeMeasurement(self, values):
            received.append(values)
            return super().makeMeasurement(values)

    asking = Asking(task().config)
    assert asking.run(metadata([3, 9])).measurement.value == 9
    assert asking.run({KEY: 4, "demo:sub.__version__": 0}).measurement.value == 4096
    with pytest.raises(NoWorkFound):
        asking.run({"demo:sub.__version__": 1})
    assert received == [
        {"EndMemory": 9, "MetadataVersion": 1},
        {"EndMemory": 4, "MetadataVersion": 0},
        {"EndMemory": None, "MetadataVersion": 1},
    ]


@pytest.mark.parametrize(
    ("values", "size_bytes"),
    [
        ({"EndMemory": 5, "MetadataVersion": 1}, 5),
        ({"EndMemory": 5, "MetadataVersion": None, "Platform": "linux"}, 5 * 1024),
        ({"EndMemory": 5, "Platform": "darwin"}, 5),
        ({"EndMemory": "5", "MetadataVersion": 0, "Platform": "sunos5", "PageSize": 4096}, 5 * 4096),
    ],
)
def test_a_measurement_is_made_from_the_values_alone(values, size_bytes):
    assert task().makeMeasurement(values).value == size_bytes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"EndMemory": 0, "MetadataVersion": 1}, "EndMemory = 0 is not a size"),
        ({"EndMemory": 5, "MetadataVersion": "1"}, "MetadataVersion = '1' is not a version"),
    ],
)
def test_malformed_values_are_named(values, message):
    with pytest.raises(MetricComputationError, match=message):
        task().makeMeasurement(values)


def test_a_subclass_may_look_for_other_keys():
    class OfStart(MemoryMetricTask):
        @classmethod
        def getInputMetadataKeys(cls, config):
            return {"EndMemory": f"{config.target}StartMaxResidentSetSize"}

    values = {"demo:sub.runStartMaxResidentSetSize": [7], **metadata([9])}
    assert OfStart(task().config).run(values).measurement.value == 7

    class OtherVersion(MemoryMetricTask):
        @classmethod
        def getInputMetadataKeys(cls, config):
            return {**super().getInputMetadataKeys(config), "MetadataVersion": "layout"}

    assert OtherVersion(task().config).run({KEY: 7, "layout": 1}).measurement.value == 7
    assert OtherVersion(task().config).run({KEY: 7, "layout": 0, "platform": "linux"}).measurement.value == 7 * 1024


@pytest.mark.parametrize(
    ("more", "peak", "contaminated"),
    [
        ({"runStartMaxResidentSetSize": [5, 20, 20]}, "own", 2),  # as LSST's timer writes: only the first call rose
        ({"runStartMaxResidentSetSize": [20, 20, 20]}, "contaminated", 3),
        ({"runStartMaxResidentSetSize": [5]}, None, None),
        ({}, None, None),
        ({"runStartMaxResidentSetSize": [20, 20, 20], "runPeakMethod": ["hwm"] * 3}, "own", None),
        ({"runPeakMethod": ["contaminated"] * 3}, "contaminated", 3),
        ({"runPeakMethod": ["hwm, shared", "hwm", "hwm"]}, "shared", None),
    ],
)
def test_the_notes_tell_own_peaks_from_contaminated_ones(more, peak, contaminated):
    notes = task().run(metadata([20, 20, 20], **more)).measurement.notes
    assert (notes.get("peak"), notes.get("contaminated")) == (peak, contaminated)
