"""Our TaskMetadata beside the real one: the same JSON, values and refusals."""

from __future__ import annotations

import math

import pytest

from runmem.metrics.memory_metric import MemoryMetricTask
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.time_method import timeMethod

Real = pytest.importorskip("lsst.pipe.base", reason="lsst-pipe-base is not installed").TaskMetadata
KINDS = [TaskMetadata, Real]


def filled(kind: type) -> object:
    metadata = kind()
    metadata["number"] = 5
    metadata["text"] = "a"
    metadata["a.b.flag"] = True
    metadata["list"] = [1.5, math.inf, -math.inf, math.nan]
    metadata.add("calls", 1)
    metadata.add("calls", 2)
    metadata["gone"] = 1
    metadata["gone.below"] = 2  # a level takes the place of a value
    metadata.set_dict("nested", {"x": 1, "deep": {"y": ["p", "q"]}})
    del metadata["text"]
    return metadata


def described(metadata: object) -> list[object]:
    return [
        metadata.names(), metadata.paramNames(topLevelOnly=True), metadata.paramNames(topLevelOnly=False),
        metadata.keys(), repr(metadata.to_dict()), metadata.get_dict("nested"), metadata.get_dict("none"),
        len(metadata), repr(metadata.getArray("list")), metadata.getArray("number"), metadata.getScalar("calls"),
        metadata["calls"], metadata.get("nothing", 7), "nested.deep.y" in metadata, "nested.deep.z" in metadata,
        [key for key, _ in metadata.items()],
    ]  # fmt: skip


def test_the_same_calls_give_the_same_values():
    assert described(filled(TaskMetadata)) == described(filled(Real))


def test_either_reads_what_the_other_wrote():
    from_real = TaskMetadata.from_json(filled(Real).model_dump_json())
    assert described(from_real) == described(filled(Real))
    from_ours = Real.model_validate_json(filled(TaskMetadata).to_json())
    from_itself = Real.model_validate_json(filled(Real).model_dump_json())  # some versions read whole numbers as floats
    assert described(from_ours) == described(from_itself)


def test_a_real_object_is_adopted():
    assert described(TaskMetadata.from_metadata(filled(Real))) == described(Real.from_metadata(filled(TaskMetadata)))


def refused(kind: type, do: object) -> type[Exception]:
    with pytest.raises((ValueError, KeyError)) as caught:
        do(filled(kind))
    return ValueError if isinstance(caught.value, ValueError) else KeyError


@pytest.mark.parametrize(
    "do",
    [
        lambda m: m.__setitem__("x", None),
        lambda m: m.__setitem__("x", [1, "2"]),
        lambda m: m.__setitem__("x", [None]),
        lambda m: m.__setitem__("x", object()),
        lambda m: m.add("calls", "three"),
        lambda m: m.add("nested", 1),
        lambda m: m["nothing"],
        lambda m: m["a.nothing"],
        lambda m: m[5],
        lambda m: m.getArray("nothing"),
        lambda m: m.__delitem__("nothing"),
    ],
)
def test_what_the_real_one_refuses_is_refused_with_the_same_kind_of_error(do):
    assert refused(TaskMetadata, do) is refused(Real, do)


def test_a_refused_addition_leaves_what_was_there():
    metadata = filled(TaskMetadata)
    with pytest.raises(ValueError, match="mixes int, str"):
        metadata.add("calls", "three")
    assert metadata.getArray("calls") == [1, 2]


def test_the_timer_writes_into_a_real_object_and_the_metric_reads_it():
    class Work:
        metadata = Real()

        @timeMethod
        def run(self) -> None:
            bytearray(b"x") * (50 * 2**20)

    Work().run()
    config = MemoryMetricTask.ConfigClass(target="run")
    config.connections.package, config.connections.metric = "demo", "Memory"
    measurement = MemoryMetricTask(config=config).run(Work.metadata).measurement
    assert measurement.value == Work.metadata["runEndMaxResidentSetSize"]
    assert measurement.notes["method"] == "hwm"
    assert Real.model_validate_json(Work.metadata.model_dump_json()) == Work.metadata


def test_both_timers_write_the_same_keys():
    real_timer = pytest.importorskip("lsst.utils.timer").timeMethod

    def keys(timer: object) -> set[str]:
        class Work:
            metadata = Real()

            @timer
            def run(self) -> None: ...

        Work().run()
        return Work.metadata.paramNames(topLevelOnly=False)

    assert keys(timeMethod) - keys(real_timer) == {"platform", "runPeakMethod"}
    assert keys(real_timer) <= keys(timeMethod)
