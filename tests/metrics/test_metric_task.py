from __future__ import annotations

import pytest

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.metrics.memory_metric import MemoryMetricTask
from runmem.metrics.metric_task import MetadataMetricTask
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.verify.measurement import Measurement


class CountMetricTask(MetadataMetricTask):
    """As a user writes one: the values of two keys become one number."""

    @classmethod
    def getInputMetadataKeys(cls, config):
        return {"good": f"{config.target}Good", "bad": f"{config.target}Bad"}

    def makeMeasurement(self, values):
        if values["good"] is None:
            raise NoWorkFound("nothing was counted")
        return Measurement(self.config.metricName, values["good"] - (values["bad"] or 0), "")


def task(kind: type = CountMetricTask, target: str = "isr"):
    config = kind.ConfigClass()
    config.connections.package, config.connections.metric, config.target = "demo", "Count", target
    return kind(config=config)


def test_a_metric_of_ones_own_gets_its_values_by_name():
    assert task().run({"a.isrGood": 7, "a.isrBad": [1, 2]}).measurement.value == 5


def test_a_key_that_is_not_there_is_none():
    assert task().run({"isrGood": 7}).measurement.value == 7
    with pytest.raises(NoWorkFound, match="nothing was counted"):
        task().run({})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"a.isrGood": 1, "b.isrGood": 2}, r"matches a\.isrGood, b\.isrGood"),
        ({"isrGood": []}, r"isrGood = \[\] has no value"),
    ],
)
def test_ambiguous_or_invalid_metadata_are_an_error(metadata, message):
    with pytest.raises(MetricComputationError, match=message):
        task().run(metadata)


def test_a_metric_task_without_input_keys_raises():
    with pytest.raises(TypeError, match="MetadataMetricTask does not say which keys it reads"):
        task(MetadataMetricTask).run({})


def test_a_memory_metric_with_a_measurement_of_ones_own():
    class Halved(MemoryMetricTask):
        def makeMeasurement(self, values):
            return Measurement(self.config.metricName, values["EndMemory"] / 2, "byte")

    values = {"isrEndMaxResidentSetSize": [100, 4096], "__version__": 1}
    assert task(Halved).run(values).measurement.value == 2048


def test_both_forms_of_the_input_are_named():
    config = MemoryMetricTask.ConfigClass()
    config.connections.package, config.connections.metric = "demo", "Memory"
    config.connections.labelName = "isr"
    assert MemoryMetricTask.getInputDatasetTypes(config) == {"metadata": "isr_metadata"}
    config.connections.metadata = "processCcd_metadata"
    assert MemoryMetricTask.getInputDatasetTypes(config) == {"metadata": "processCcd_metadata"}
    assert MemoryMetricTask.getOutputMetricName(config) == "demo.Memory"
    assert MemoryMetricTask.areInputDatasetsScalar(config) == {"metadata": True}


@pytest.mark.parametrize(("name", "value"), [("package", "a.b"), ("metric", "a.b"), ("package", None), ("metric", "")])
def test_a_name_that_cannot_be_used_is_refused_before_any_work(name, value):
    config = MemoryMetricTask.ConfigClass(target="isr")
    config.connections.package, config.connections.metric = "demo", "Memory"
    setattr(config.connections, name, value)
    with pytest.raises(ValueError, match=f"connections.{name} is {value!r}") as caught:
        MemoryMetricTask(config=config)
    assert isinstance(caught.value, SettingError)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("connections.package", "de mo", "package name may not contain white space"),
        ("connections.labelName", None, "labelName has no value .label of the task"),
        ("connections.metadata", "", "metadata is '': expected the name of a dataset type"),
        ("metadataDimensions", "detector", "metadataDimensions = 'detector' is a str; it must be a list"),
        ("metadataDimensions", [1], r"metadataDimensions = \[1\]: 1 is not a text"),
        ("saveLogOutput", "no", "saveLogOutput = 'no' is a str; it must be a bool"),
        ("saveMetadata", None, "saveMetadata has no value"),
        ("target", None, "target is None: name the task"),
        ("target", ["run"], r"target = \['run'\] is a list; it must be a str"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_name(name, value, message):
    config = MemoryMetricTask.ConfigClass(target="isr")
    config.connections.package, config.connections.metric = "demo", "Memory"
    owner, _, last = name.rpartition(".")

    def set_and_make():
        setattr(config.connections if owner else config, last, value)  # most are refused here already
        MemoryMetricTask(config=config)

    with pytest.raises(SettingError, match=message):
        set_and_make()


def test_a_misspelled_attribute_of_the_configuration_is_refused():
    config = MemoryMetricTask.ConfigClass()
    with pytest.raises(AttributeError):
        config.traget = "isr"
    with pytest.raises(AttributeError):
        config.connections.labelname = "isr"


def test_the_path_of_a_run_directory_is_metadata(tmp_path):
    directory = RunDirectory.create("demo", tmp_path)
    record = TaskRecord(
        task_id=1, attempt=1, module="demo", name="isr", file="demo.py", node="n1", pid=7, thread=7, status="finished",
        start_s=1.0, end_s=2.0, cpu_s=0.5, base_bytes=1000, peak_bytes=5000, end_bytes=1000, method="hwm",
    )  # fmt: skip
    directory.tasks_jsonl.write_bytes(record_to_line(record))
    (directory.root / "run.json").write_text("{}")
    for path in (directory.root, directory.root / "run.json"):
        assert task(MemoryMetricTask, "demo.isr").run(path).measurement.value == 5000


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"x", "b'x' is a bytes: give task metadata, a mapping, or the path"),
        (5, "5 is a int: give"),
        ("", "the path is empty"),
        ("gone.json", "gone.json cannot be read: No such file"),
        ("trace.dat", "trace.dat is not a JSON file of task metadata"),
        ("list.json", "list.json is not a JSON file of task metadata: not task metadata"),
    ],
)
def test_a_source_without_metadata_is_named(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.dat").write_text("MEM 5.0 1.0\n")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(MetricComputationError, match=message):
        task(MemoryMetricTask).run(source)


@pytest.mark.parametrize("config", [MemoryMetricTask.ConfigClass, {"target": "isr"}, "isr"])
def test_an_invalid_configuration_object_raises_with_the_remedy(config):
    with pytest.raises(SettingError, match=r"give an object, config = MemoryMetricTask\.ConfigClass\(\)"):
        MemoryMetricTask(config)


def test_the_connections_have_the_attributes_that_pipelines_and_their_test_helpers_read():
    config = task(MemoryMetricTask).config
    config.connections.labelName = "isr"
    config.metadataDimensions = {"visit", "instrument"}
    for kind in (config.connections.ConnectionsClass, config.ConnectionsClass):
        connections = kind(config=config)
        assert (connections.metadata.name, connections.measurement.name) == ("isr_metadata", "metricvalue_demo_Count")
        assert (connections.inputs, connections.outputs) == ({"metadata"}, {"measurement"})
        assert not connections.prerequisiteInputs | connections.initInputs | connections.initOutputs
        for connection in (connections, *connections.allConnections.values()):
            assert connection.dimensions == {"instrument", "visit"}
        assert not connections.metadata.multiple


def test_a_configuration_is_saved_loaded_updated_compared_and_frozen(tmp_path):
    config, other = task(MemoryMetricTask, "isr.run").config, MemoryMetricTask.ConfigClass()
    config.metadataDimensions = {"visit", "instrument"}
    config.save(tmp_path / "metric.py")
    other.load(tmp_path / "metric.py")
    assert other == config
    assert other.metadataDimensions == ["instrument", "visit"]
    config.save(tmp_path / "root.py", root="root")
    MemoryMetricTask.ConfigClass().load(str(tmp_path / "root.py"), root="root")
    other.update(target="isr.other", saveLogOutput=False)
    differences = []
    assert not config.compare(other, output=differences.append)
    assert sorted(line.partition(":")[0] for line in differences) == ["saveLogOutput", "target"]
    with pytest.raises(SettingError, match="saveLogOutput = 5"):
        other.update(target="isr.third", saveLogOutput=5)
    assert other.target == "isr.other"
    other.freeze()
    for owner, name in ((other, "target"), (other.connections, "metric")):
        with pytest.raises(SettingError, match="frozen"):
            setattr(owner, name, "x")
    changed = other.copy()
    changed.target = "x"


def test_input_keys_may_be_replaced_in_one_object():
    one = task(MemoryMetricTask)
    one.getInputMetadataKeys = lambda config: {"mine": "special"}
    one.makeMeasurement = lambda values: Measurement("demo.Count", values["mine"], "")
    assert one.run({"a.special": 42}).measurement.value == 42
