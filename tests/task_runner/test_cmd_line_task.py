"""Command line, configuration and what precall stores, in one process."""

from __future__ import annotations

import logging

import numpy
import pytest

from runmem.pipe_base.butler import FolderButler
from runmem.task_runner import CmdLineTask, Config, ConfigError, ConfigField, Field, TaskError, TaskRunner
from runmem.task_runner.data_ids import parse_data_ids


class Limits(Config):
    lowest = Field("counts below it are dropped", int, default=1, check=lambda n: n >= 0)


class CountConfig(Config):
    scale = Field("factor", float, default=2.0)
    label = Field("name of the output", str, default="a")
    limits = ConfigField("limits", Limits)


class Count(CmdLineTask):
    ConfigClass = CountConfig
    _DefaultName = "count"
    schema = ["id", "flux"]

    def getSchemaCatalogs(self):
        return {"src": self.schema}

    def runDataRef(self, dataRef):
        self.metadata["visit"] = dataRef.dataId["visit"]
        if dataRef.dataId["visit"] == 13:
            raise ValueError("unlucky")
        return dataRef.dataId["visit"] * self.config.scale


class KeywordRunner(TaskRunner):  # case 1 of the manual
    @staticmethod
    def getTargetList(parsedCmd):
        return TaskRunner.getTargetList(parsedCmd, offset=100)


class WithKeyword(Count):
    RunnerClass = KeywordRunner

    def runDataRef(self, dataRef, offset):
        return dataRef.dataId["visit"] + offset


class PairRunner(TaskRunner):  # case 2 of the manual
    @staticmethod
    def getTargetList(parsedCmd):
        refs = parsedCmd.id.refList
        return [((first, second), {}) for first, second in zip(refs, refs[1:], strict=False)]

    def runTask(self, task, dataRef, kwargs):
        return task.difference(*dataRef)


class Difference(Count):
    RunnerClass = PairRunner

    def difference(self, first, second):
        return second.dataId["visit"] - first.dataId["visit"]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return str(tmp_path / "data")


def values(task, *args):
    return [r.result for r in task.parseAndRun(args=list(args), doReturnResults=True).resultList]


def test_the_parts_of_a_run_come_back(data):
    found = Count.parseAndRun(args=[data, "--id", "visit=1^2"], doReturnResults=True)
    assert set(vars(found)) == {"argumentParser", "parsedCmd", "taskRunner", "resultList"}
    assert [set(vars(r)) for r in found.resultList] == [{"exitStatus", "dataRef", "metadata", "result"}] * 2
    assert [r.result for r in found.resultList] == [2.0, 4.0]
    assert found.resultList[1].metadata["visit"] == 2


def test_without_a_request_only_the_status_comes_back(data):
    found = Count.parseAndRun(args=[data, "--id", "visit=1"])
    assert [vars(r) for r in found.resultList] == [{"exitStatus": 0}]


def test_a_runner_may_give_more_arguments_or_another_signature(data):
    assert values(WithKeyword, data, "--id", "visit=1^5") == [101, 105]
    assert values(Difference, data, "--id", "visit=1^5^7") == [4, 2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["visit=1^3"], [{"visit": 1}, {"visit": 3}]),
        (["visit=1", "ccd=0..4:2"], [{"visit": 1, "ccd": n} for n in (0, 2, 4)]),
        (["filter=r^g"], [{"filter": "r"}, {"filter": "g"}]),
        (["visit=007"], [{"visit": "007"}]),
        ([], []),
    ],
)
def test_data_ids_are_the_product_of_the_values(words, expected):
    assert parse_data_ids(words) == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [(["visit"], "KEY=VALUE"), (["visit=1", "visit=2"], "twice"), (["visit=5..1"], "empty range"), (["v=1^"], "empty")],
)
def test_a_data_id_that_cannot_be_one_ends_with_its_text(data, capsys, words, told):
    with pytest.raises(SystemExit, match="2"):
        Count.parseAndRun(args=[data, "--id", *words])
    assert told in capsys.readouterr().err


def test_several_ids_add_up_and_a_file_holds_arguments(data, tmp_path):
    (tmp_path / "args").write_text("--id visit=1  # first\n--config scale=3\n")
    assert values(Count, data, f"@{tmp_path / 'args'}", "--id", "visit=4") == [3.0, 12.0]


def test_an_id_without_keys_means_all_stored_data(data):
    for visit in (3, 8):
        FolderButler(data).put({"pixels": 1}, "raw", {"visit": visit})
    assert values(Count, data, "--id") == [6.0, 16.0]


def test_the_command_line_sets_fields_in_its_order(data, tmp_path):
    (tmp_path / "more.py").write_text("config.scale = 5\nconfig.limits.lowest = 3\n")
    parsed = Count.parseAndRun(
        args=[data, "--id", "visit=1", "-c", "scale=4", "label=7", "-C", str(tmp_path / "more.py")]
    ).parsedCmd
    assert (parsed.config.scale, parsed.config.label, parsed.config.limits.lowest) == (5.0, "7", 3)


@pytest.mark.parametrize("word", ["scale=big", "nothing=1", "limits.lowest=-1", "limits.none=1", "scale"])
def test_a_field_that_is_not_there_or_a_wrong_value_ends_with_2(data, capsys, word):
    with pytest.raises(SystemExit, match="2"):
        Count.parseAndRun(args=[data, "--config", word])
    assert word.partition("=")[0].rpartition(".")[2] in capsys.readouterr().err


def test_a_configuration_survives_as_text_and_tells_its_differences():
    first, second = CountConfig(scale=float("inf")), CountConfig()
    second.loadFromString(first.saveToString())
    assert first == second
    second.limits.lowest = 9
    told = []
    assert not first.compare(second, output=told.append)
    assert told == ["limits.lowest: 1 != 9"]
    with pytest.raises(ConfigError, match="no field 'sclae'"):
        first.sclae = 1


class OddConfig(Config):
    numbers = Field("bounds", list, default=[1.0, float("inf"), complex("nan+1j")])
    weights = Field("by name", dict, default={"a": 1, "b": (2,)})
    level = Field("of a survey", float, default=1.0)


class Odd(Count):
    ConfigClass = OddConfig


@pytest.mark.parametrize("level", [numpy.float64(0.1), float("nan")])
def test_any_value_of_a_field_compares_equal_with_itself_when_stored(data, level):
    for weights in ({"a": 1, "b": (2,)}, {"b": (2,), "a": 1}):
        Odd.parseAndRun(args=[data, "--id", "--doraise"], config=OddConfig(level=level, weights=weights))


@pytest.mark.parametrize(("stored", "told"), [("config.old=1\n", "no field 'old'"), ("config.scale=1+\n", "1+")])
def test_a_stored_configuration_that_cannot_be_read_is_told_with_what_to_do(data, caplog, capsys, stored, told):
    FolderButler(data).put(stored, "count_config")
    with pytest.raises(SystemExit, match="^1$"):
        Count.parseAndRun(args=[data, "--id", "visit=1"])
    assert told in caplog.text
    assert "--clobber-config" in caplog.text
    assert "Traceback" not in capsys.readouterr().err
    Count.parseAndRun(args=[data, "--id", "visit=1", "--clobber-config"])


def test_what_precall_compares_is_in_the_output_not_in_the_input(data, tmp_path):
    Count.parseAndRun(args=[data, "--id", "visit=1"])
    output = str(tmp_path / "output")
    Count.parseAndRun(args=[data, "--output", output, "--id", "visit=1", "-c", "scale=3", "--doraise"])
    assert "config.scale=3.0" in FolderButler(output).get("count_config")
    assert "config.scale=2.0" in FolderButler(data).get("count_config")
    with pytest.raises(TaskError, match="scale"):
        Count.parseAndRun(args=[data, "--output", output, "--id", "visit=1", "-c", "scale=4", "--doraise"])


def test_a_configuration_is_frozen_once_the_command_line_was_read(data):
    class Changes(Count):
        def runDataRef(self, dataRef):
            self.config.limits.lowest = 5

    with pytest.raises(ConfigError, match="lowest cannot be set: the configuration is frozen"):
        Changes.parseAndRun(args=[data, "--id", "visit=1", "--doraise"])
    frozen = CountConfig()
    frozen.freeze()
    made = frozen.copy()
    made.limits.lowest = 5
    assert frozen.limits.lowest == 1


def test_versions_are_backed_up_whatever_becomes_of_the_configuration(data, tmp_path):
    FolderButler(data).put({"python": "2.7"}, "packages")
    Count.parseAndRun(args=[data, "--id", "visit=1", "--clobber-versions", "--no-backup-config"])
    assert "2.7" in (tmp_path / "data" / "packages.json~1").read_text()


def test_precall_stores_config_schema_and_versions_and_refuses_others(data, caplog):
    Count.parseAndRun(args=[data, "--id", "visit=1"])
    butler = FolderButler(data)
    assert "config.scale=2.0" in butler.get("count_config")
    assert butler.get("src_schema") == ["id", "flux"]
    assert "python" in butler.get("packages")
    with pytest.raises(SystemExit, match="^1$"):
        Count.parseAndRun(args=[data, "--id", "visit=1", "-c", "scale=3"])
    assert "scale: 3.0 != 2.0" in caplog.text
    with pytest.raises(TaskError, match="clobber-config"):
        Count.parseAndRun(args=[data, "--id", "visit=1", "-c", "scale=3", "--doraise"])


def test_a_replaced_configuration_is_kept_unless_no_backup_is_wanted(data, tmp_path):
    for scale, option in (("1", []), ("2", []), ("3", ["--no-backup-config"])):
        Count.parseAndRun(args=[data, "--id", "visit=1", "-c", f"scale={scale}", "--clobber-config", *option])
    names = sorted(path.name for path in (tmp_path / "data").glob("count_config*"))
    assert names == ["count_config.txt", "count_config.txt~1"]
    assert "config.scale=1.0" in (tmp_path / "data" / "count_config.txt~1").read_text()
    assert "config.scale=3.0" in (tmp_path / "data" / "count_config.txt").read_text()


def test_another_version_of_a_package_is_refused_with_its_name(data):
    butler = FolderButler(data)
    butler.put({"numpy": "0.1"}, "packages")
    import numpy  # noqa: F401  # one of those that are compared

    with pytest.raises(TaskError, match=r"numpy: .* != 0\.1"):
        Count.parseAndRun(args=[data, "--id", "visit=1", "--doraise"])
    Count.parseAndRun(args=[data, "--id", "visit=1", "--no-versions"])
    Count.parseAndRun(args=[data, "--id", "visit=1", "--clobber-versions"])
    assert butler.get("packages")["numpy"] == numpy.__version__


def test_a_failed_target_has_its_metadata_written_and_sets_the_exit_code(data, caplog):
    with pytest.raises(SystemExit, match="^1$"):
        Count.parseAndRun(args=[data, "--id", "visit=13^1"])
    assert FolderButler(data).get("count_metadata", visit=13)["count"]["visit"] == 13
    assert "Failed on dataId={'visit': 13}: ValueError: unlucky" in caplog.text
    found = Count.parseAndRun(args=[data, "--id", "visit=13^1", "--noExit"])
    assert [r.exitStatus for r in found.resultList] == [1, 0]
    with pytest.raises(ValueError, match="unlucky"):
        Count.parseAndRun(args=[data, "--id", "visit=13", "--doraise"])


@pytest.mark.parametrize("words", [["--timeout", "nan"], ["--timeout", "soon"], ["--timeout-per-target", "inf"]])
def test_a_time_limit_that_is_none_ends_with_its_text(data, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        Count.parseAndRun(args=[data, "--id", "visit=1", *words])
    assert words[1] in capsys.readouterr().err


def test_a_runner_that_returns_no_list_is_taken_to_have_succeeded(data, caplog):
    class Silent(TaskRunner):
        def run(self, parsedCmd):
            super().run(parsedCmd)

    class Quiet(Count):
        RunnerClass = Silent

    Quiet.parseAndRun(args=[data, "--id", "visit=1"])
    assert "Unable to retrieve exit status" in caplog.text


def test_no_data_is_a_warning_and_no_result(data, caplog):
    assert Count.parseAndRun(args=[data, "--id"]).resultList == []
    assert "no data to process" in caplog.text


def test_a_task_that_cannot_run_in_several_processes_uses_one(data, caplog):
    class Single(Count):
        canMultiprocess = False

    with caplog.at_level(logging.WARNING):
        found = Single.parseAndRun(args=[data, "--id", "visit=1", "-j", "2"])
    assert found.taskRunner.numProcesses == 1
    assert "does not support multiprocessing" in caplog.text
    assert found.taskRunner.timeout == TaskRunner.TIMEOUT == 2_592_000


def test_show_prints_and_ends_before_anything_is_written(data, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        Count.parseAndRun(args=[data, "--id", "visit=1^2", "--show", "config=*lowest", "data"])
    assert capsys.readouterr().out == (
        "# counts below it are dropped\nconfig.limits.lowest=1\n"
        "id dataRef.dataId = {'visit': 1}\nid dataRef.dataId = {'visit': 2}\n"
    )
    assert list((tmp_path / "data").iterdir()) == []


def test_a_subtask_logs_and_counts_under_its_full_name():
    class Top(Count):
        def __init__(self, **more):
            super().__init__(**more)
            self.makeSubtask("limits", Count)

    top = Top(config=CountConfig())
    top.limits.metadata["n"] = 1
    assert top.limits.getFullName() == "count.limits"
    assert top.getFullMetadata()["count:limits.n"] == 1
