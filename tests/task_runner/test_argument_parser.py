"""What a parser of ``lsst.pipe.base`` does with a command line, in one process."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from runmem.errors import SettingError
from runmem.pipe_base.butler import FolderButler
from runmem.task_runner import (
    ArgumentParser,
    ButlerInitializedTaskRunner,
    CmdLineTask,
    Config,
    ConfigDatasetType,
    ConfigField,
    DatasetArgument,
    Field,
    LegacyTaskRunner,
)


class Limits(Config):
    lowestCount = Field("counts below it are dropped\nfor each star", int, default=1)


class Sample(Config):
    name = Field("of the output", str, default="a")
    kind = Field("type of the datasets", str, default="calexp")
    none = Field("without a value", str, optional=True)
    limits = ConfigField("limits", Limits)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return str(tmp_path / "data")


def parser(**options) -> ArgumentParser:
    made = ArgumentParser(name="sample", **options)
    made.add_id_argument("--id", "raw", "data")
    return made


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("1..4", [1, 2, 3, 4]),
        ("1^3", [1, 3]),
        ("1..9:2", [1, 3, 5, 7, 9]),
        ("0^2..4^7..9", [0, 2, 3, 4, 7, 8, 9]),
        ("1,1^2,2", ["1,1", "2,2"]),
        ("a..c", ["a..c"]),
    ],
)
def test_the_values_of_a_key_are_a_list_of_values_and_ranges(data, word, values):
    parsed = parser().parse_args(Sample(), [data, "--id", f"visit={word}"])
    assert [data_id["visit"] for data_id in parsed.id.idList] == values
    assert [ref.dataId["visit"] for ref in parsed.id.refList] == values


def test_a_parser_that_is_used_again_knows_nothing_of_the_command_before(data):
    used = parser()
    used.add_id_argument("--otherId", "raw", "more data")
    used.parse_args(Sample(), [data, "--id", "visit=1", "--other", "visit=9"])
    again = used.parse_args(Sample(), [data, "--id", "visit=2"])
    assert (again.id.idList, again.otherId.idList) == ([{"visit": 2}], [])


@pytest.mark.parametrize("name", ["--id", "--config", "--butler", "--log", "--input", "--timeout"])
def test_data_ids_cannot_have_a_name_that_is_taken(name):
    with pytest.raises(SettingError, match=f"{name}.* is taken"):
        parser().add_id_argument(name, "raw", "data")


def test_input_and_output_are_meant_from_where_the_program_was_started(data, tmp_path, monkeypatch):
    class Moves(CmdLineTask):
        _DefaultName = "moves"

        def runDataRef(self, dataRef):
            os.chdir("/")

    monkeypatch.chdir(tmp_path)
    parsed = Moves.parseAndRun(["data", "--output", "made", "--id", "visit=1^2"]).parsedCmd
    assert (parsed.input, parsed.output) == (data, str(tmp_path / "made"))
    assert len(list((tmp_path / "made" / "moves_metadata").iterdir())) == 2


@pytest.mark.parametrize(
    ("pattern", "shown", "hint"),
    [
        ("config.limits.lowestCount", True, True),
        ("*LOWEST*", True, True),
        ("lowestcount", True, False),
        ("*lowestCount:NOIGNORECASE", True, False),
        ("*lowestcount:NOIGNORECASE", False, False),
        ("lowest", False, False),
    ],
)
def test_fields_are_shown_with_what_they_mean_by_a_pattern(data, capsys, pattern, shown, hint):
    with pytest.raises(SystemExit, match="^0$"):
        parser().parse_args(Sample(), [data, "--show", f"config={pattern}"])
    told = "# counts below it are dropped\n# for each star\nconfig.limits.lowestCount=1\n"
    out = capsys.readouterr().out
    assert out.endswith(told) == shown
    assert ("without regard to case" in out) == hint
    assert "config.name" not in out


def test_what_is_shown_may_be_a_configuration_that_is_not_valid_yet(data, capsys):
    class Incomplete(Config):
        needed = Field("no default", str)

    with pytest.raises(SystemExit, match="^0$"):
        parser().parse_args(Incomplete(), [data, "--show", "config", "data", "tasks", "--id", "visit=3"])
    assert capsys.readouterr().out == (
        "# no default\nconfig.needed=None\n\nid dataRef.dataId = {'visit': 3}\nSubtasks:\n"
    )
    with pytest.raises(SystemExit, match="^2$"):
        parser().parse_args(Incomplete(), [data])


def test_showing_goes_on_to_run_where_that_is_asked_for_and_refuses_what_it_does_not_know(data, capsys):
    assert parser().parse_args(Sample(), [data, "--show", "config", "run"]).config.name == "a"
    assert "config.name='a'" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Unknown value for show: cats"):
        parser().parse_args(Sample(), [data, "--show", "cats", "run"])


def test_a_level_is_that_of_the_log_that_was_given_and_of_those_that_are_named(data):
    log = logging.getLogger("given")
    log.setLevel(logging.ERROR)
    names = ["given", "foo.bar", "baz", ""]
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for text, level in (("debug", 10), ("Info", 20), ("WARN", 30), ("eRRoR", 40), ("fatal", 50), ("trace", 5)):
            options = ["--loglevel", text, f"foo.bar={text}", "baz=INFO", "baz=TRACE"]
            parsed = parser().parse_args(Sample(), [data, *options], log=log)
            assert parsed.log is log
            assert (log.level, logging.getLogger("foo.bar").level, logging.getLogger("baz").level) == (level, level, 5)
        with pytest.raises(SystemExit, match="2"):
            parser().parse_args(Sample(), [data, "--loglevel", "INVALID_LEVEL"])
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize(("name", "option"), [(None, "--id_dstype"), ("--foo-type", "--foo-type")])
@pytest.mark.parametrize("default", [None, "raw"])
def test_an_option_names_the_type_of_the_datasets(data, capsys, name, option, default):
    made = ArgumentParser(name="sample")
    made.add_id_argument("--id", DatasetArgument(name, default=default), "data")
    assert made.parse_args(Sample(), [data, option, "calexp", "--id", "visit=2"]).id.datasetType == "calexp"
    if default is None:
        with pytest.raises(SystemExit, match="2"):
            made.parse_args(Sample(), [data])
        assert option in capsys.readouterr().err
    else:
        assert made.parse_args(Sample(), [data]).id.datasetType == default


def test_a_positional_argument_or_a_field_names_the_type_of_the_datasets(data, capsys):
    made = ArgumentParser(name="sample")
    made.add_id_argument("--id", DatasetArgument("foo"), "data")
    assert made.parse_args(Sample(), [data, "calexp"]).id.datasetType == "calexp"
    by_field = ArgumentParser(name="sample")
    by_field.add_id_argument("--id", ConfigDatasetType("kind"), "data")
    assert by_field.parse_args(Sample(), [data, "-c", "kind=src"]).id.datasetType == "src"
    unset = ArgumentParser(name="sample")
    unset.add_id_argument("--id", ConfigDatasetType("none"), "data")
    with pytest.raises(SystemExit, match="2"):
        unset.parse_args(Sample(), [data])
    assert "'none'" in capsys.readouterr().err


def test_a_reference_takes_the_keywords_of_the_original(data):
    (ref,) = parser().parse_args(Sample(), [data, "--id", "visit=1"]).id.refList
    ref.put({"a": 1}, "src")
    ref.put({"a": 2}, "src", doBackup=True)
    assert ref.get("src", immediate=True) == {"a": 2}
    assert ref.datasetExists("src")
    assert ref.getButler().exists("src", visit=1)
    assert [path.name for path in Path(data, "src").iterdir() if path.name.endswith("~1")]


def test_a_task_may_be_called_by_run_or_made_with_the_butler(data):
    class Legacy(CmdLineTask):
        RunnerClass = LegacyTaskRunner
        _DefaultName = "legacy"

        def run(self, dataRef):
            return dataRef.dataId["visit"]

    class WithButler(CmdLineTask):
        RunnerClass = ButlerInitializedTaskRunner
        _DefaultName = "with_butler"

        def __init__(self, butler, **more):
            super().__init__(**more)
            self.butler = butler

        def runDataRef(self, dataRef):
            return self.butler.get("offset") + dataRef.dataId["visit"]

    FolderButler(data).put(10, "offset")
    for Task, expected in ((Legacy, [1, 2]), (WithButler, [11, 12])):
        found = Task.parseAndRun([data, "--id", "visit=1^2"], doReturnResults=True)
        assert [result.result for result in found.resultList] == expected


def test_a_configuration_is_saved_to_what_is_there(written_kind, make_target, tmp_path):
    target = make_target(written_kind, tmp_path / "sample.py")
    config = Sample()
    config.name = "\N{GREEK SMALL LETTER ALPHA} Cen"
    config.save(target.path)
    target.check()
    if target.keeps_content:
        (tmp_path / "again.py").write_bytes(target.content())
        again = Sample()
        again.load(tmp_path / "again.py")
        assert again.name == config.name


def test_a_configuration_does_not_replace_what_is_no_file(refused_kind, make_target, tmp_path):
    target = make_target(refused_kind, tmp_path / "sample.py")
    with pytest.raises(OSError, match="it is a "):
        Sample().save(target.path)
    target.check()
