"""`@binary` with real programs."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from runmem.commands.decorators import binary, compss, epilog, julia, multinode, ompss, opencl, prolog
from runmem.errors import ArgumentError, CommandError, CommandFailedError, COMPSsException, TaskDeclarationError
from runmem.graph.directions import BY_NAME, COLLECTION_IN, FILE_IN, FILE_INOUT, FILE_OUT
from runmem.graph.task import task

TO_OUT = {"type": FILE_OUT, "stream": "stdout"}


def printed_by(decorated, *args, **kwargs):
    """Call a task whose last parameter, `out`, is its standard output; return the lines of that."""
    decorated(*args, **kwargs, out="printed.txt")
    return Path("printed.txt").read_text().splitlines()


@pytest.fixture
def lines(folder):
    """Return the path of a program that prints each of its arguments on a line of its own."""
    path = folder / "lines"
    path.write_text('#!/bin/sh\nfor each in "$@"; do echo "[$each]"; done\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_arguments_are_those_of_the_task_in_their_order(lines):
    @binary(binary=lines)
    @task(out=TO_OUT)
    def called(first, second, *rest, third="c d", out=None, **more):
        pass

    found = printed_by(called, "a b", 2, 0.5, True, None, third="", fourth="$HOME")
    assert found == ["[a b]", "[2]", "[0.5]", "[true]", "[]", "[$HOME]"]


def test_files_are_given_as_absolute_paths_and_prefixes_stand_before_them(lines, folder):
    Path("data").touch()

    @binary(binary=lines)
    @task(
        path={"type": FILE_IN, "prefix": "--in="}, sort={"prefix": "--sort="}, hidden={"prefix": "#"},
        none={"prefix": "null"}, out=TO_OUT,
    )  # fmt: skip
    def called(flag, path, sort, hidden, none, out):
        pass

    found = printed_by(called, "-l", "data", "size", "not given", "x")
    assert found == ["[-l]", f"[--in={folder}/data]", "[--sort=size]", "[x]"]


def test_each_item_of_a_collection_is_an_argument(lines, folder):
    @binary(binary=lines)
    @task(paths=BY_NAME["COLLECTION_FILE_IN"], nested={"type": COLLECTION_IN, "depth": 2}, out=TO_OUT)
    def called(numbers, paths, nested, out):
        pass

    found = printed_by(called, [1, 2], ["a"], [["x"], ["y", "z"]])
    assert found == ["[1]", "[2]", f"[{folder}/a]", "[x]", "[y]", "[z]"]


def test_a_template_names_arguments_and_a_value_is_never_split(lines, folder, monkeypatch):
    monkeypatch.setenv("WORD", "from the environment")
    for name in ("b.txt", "a.txt", "*.log"):
        Path(name).touch()
    template = "-x {{text}} --n={{ number }} '{{text}} too' *.txt {{wild}} {{items}} none*"

    @binary(binary=lines, args=template + " ${WORD}")
    @task(out=TO_OUT)
    def called(text, number, wild, items, out):
        pass

    found = printed_by(called, "a b", 3, "*.log", [1, "2 3"])
    expected = ["-x", "a b", "--n=3", "a b too", "a.txt", "b.txt", "*.log", "1", "2 3", "none*"]
    assert found == [f"[{word}]" for word in [*expected, "from", "the", "environment"]]


def test_only_the_wildcards_of_a_template_are_wildcards(lines, folder):
    for name in ("[d]/a.txt", "d/b.txt"):
        (folder / name).parent.mkdir()
        (folder / name).touch()

    @binary(binary=lines, args="{{name}}/*.txt")
    @task(out=TO_OUT)
    def called(name, out):
        pass

    assert printed_by(called, "[d]") == ["[[d]/a.txt]"]


def test_a_template_may_name_attributes(lines):
    class Point:
        x = 5

    @binary(binary=lines, params="--x={{point.x}} {{point.x}}")
    @task(out=TO_OUT)
    def called(point, out):
        pass

    assert printed_by(called, Point()) == ["[--x=5]", "[5]"]


def test_a_method_passes_all_but_itself(lines):
    class Said:
        name = "me"

        @binary(binary=lines)
        @task(out=TO_OUT)
        def called(self, word, out):
            pass

        @binary(binary=lines, args="{{self.name}}")
        @task(out=TO_OUT)
        def named(self, out):
            pass

        @staticmethod
        @binary(binary=lines)
        @task(out=TO_OUT)
        def static(word, out):
            pass

    assert printed_by(Said().called, "word") == ["[word]"]
    assert printed_by(Said().named) == ["[me]"]
    assert printed_by(Said.static, "word") == ["[word]"]


def test_standard_streams_are_files(folder):
    @binary(binary="sh", args="-c 'cat; echo error >&2'")
    @task(given=BY_NAME["FILE_IN_STDIN"], out=BY_NAME["FILE_OUT_STDOUT"], error=BY_NAME["FILE_OUT_STDERR"])
    def called(given, out, error):
        pass

    Path("given").write_text("content")
    Path("out").write_text("replaced")
    called("given", "out", "error")
    assert Path("out").read_text() == "content"
    assert Path("error").read_text() == "error\n"


def test_an_inout_stream_is_appended_to_and_none_is_none(capfd):
    @binary(binary="echo")
    @task(out=BY_NAME["FILE_INOUT_STDOUT"])
    def called(text, out):
        pass

    Path("out").write_text("before\n")
    called("after", "out")
    assert Path("out").read_text() == "before\nafter\n"
    called("to the task's output", None)
    assert capfd.readouterr().out == "to the task's output\n"


def test_what_a_command_prints_comes_after_what_the_task_printed_before(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    source = """
        from runmem.commands.decorators import binary
        from runmem.graph.task import task

        @binary(binary="echo")
        @task()
        def called(text): pass

        print("first")
        called("second")
        print("third")
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True, check=True)
    assert out.stdout == "first\nsecond\nthird\n"


def test_files_can_be_changed_in_place():
    @binary(binary="sed")
    @task(path=FILE_INOUT)
    def replaced(flag, expression, path):
        pass

    Path("text").write_text("Hi all")
    replaced("-i", "s/Hi/HELLO/", "text")
    assert Path("text").read_text() == "HELLO all"


def test_the_working_directory_is_a_template_and_made(folder, monkeypatch):
    monkeypatch.setenv("BASE", str(folder / "base"))

    @binary(binary="pwd", args="", working_dir="${BASE}/{{name}}")
    @task(out=TO_OUT)
    def called(name, out):
        pass

    assert printed_by(called, "a b") == [f"{folder}/base/a b"]


def test_a_program_is_looked_for_in_the_working_directory(folder):
    scripts = folder / "scripts"
    scripts.mkdir()
    (scripts / "run.sh").write_text("echo no first line $1\n")  # nothing says which interpreter it is for
    (scripts / "run.sh").chmod(0o755)

    @binary(binary="./run.sh", workingDir=str(scripts))
    @task(out=TO_OUT)
    def relative(word, out):
        pass

    @binary(binary="run.sh", working_dir=str(scripts))
    @task(out=TO_OUT)
    def named(word, out):
        pass

    assert printed_by(relative, "x") == printed_by(named, "x") == ["no first line x"]


@pytest.mark.parametrize("fails", [False, 0, "false", "$FAILS"])
def test_the_exit_value_is_what_the_task_returns(fails, monkeypatch):
    monkeypatch.setenv("FAILS", "false")

    @binary(binary="sh", args="-c 'exit {{code}}'", fail_by_exit_value=fails)
    @task(returns=int)
    def called(code):
        pass

    assert [called(code) for code in (0, 3, 123)] == [0, 3, 123]


@pytest.mark.parametrize("fails", [None, True, 1, "true", "${FAILS}"])
def test_an_exit_value_is_an_error(fails, monkeypatch):
    monkeypatch.setenv("FAILS", "TRUE")

    @binary(binary="sh", args="-c 'exit {{code}}'", fail_by_exit_value=fails)
    @task(returns=int)
    def called(code):
        pass

    assert called(0) == 0
    with pytest.raises(CommandError, match=r"called \(.*test_binary.py:\d+\): .*sh -c exit 3 ended with exit value 3"):
        called(3)


def test_a_signal_that_ends_the_command_is_named():
    @binary(binary="sh", args="-c 'kill -9 $$'", fail_by_exit_value=False)
    @task(returns=int)
    def tolerated():
        pass

    @binary(binary="sh", args="-c 'kill -9 $$'")
    @task(returns=int)
    def called():
        pass

    assert tolerated() == 128 + signal.SIGKILL
    with pytest.raises(CommandError, match="was ended by SIGKILL"):
        called()


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("no-such-program", "'no-such-program' was not found on PATH on this machine: install it"),
        ("./no-such-program", "does not exist at .*/no-such-program on this machine"),
        ("julia", "install Julia"),
    ],
)
def test_a_program_that_is_not_there_is_an_error_of_the_call(program, what, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    @binary(binary=program)
    @task()
    def called():
        pass

    with pytest.raises(CommandError, match=what):
        called()


def test_what_is_no_program_is_an_error_of_the_call(folder):
    Path("text").write_text("no program")

    @binary(binary="./text")
    @task()
    def called():
        pass

    with pytest.raises(CommandError, match="text is not executable"):
        called()
    Path("text").write_bytes(b"\x7fELF is not all")
    Path("text").chmod(0o755)
    with pytest.raises(CommandError, match="cannot be started: |ended with exit value"):
        called()


def test_an_error_of_a_command_can_travel_and_ends_a_group():
    error = pickle.loads(pickle.dumps(CommandFailedError("said")))
    assert str(error) == "said"
    assert isinstance(error, COMPSsException)


def test_another_program_of_tasks_is_run_by_runcompss(programs):
    programs("runcompss", "import sys; print(sys.argv[1:])")  # in place of PyCOMPSs's: shows what it is given

    @compss(app_name="{{name}}.py", flags="-d --x={{name}}", args="{{name}} 2")
    @task(out=TO_OUT)
    def called(name, out):
        pass

    assert printed_by(called, "app") == ["['-d', '--x=app', 'app.py', 'app', '2']"]


def test_another_program_of_tasks_is_run_by_runmem_without_runcompss(folder):
    Path("app.py").write_text("import sys; print(sys.argv[1:]); sys.exit(5)")

    @compss(runcompss="$NOT_SET", flags="-d", app_name="app.py", computing_nodes="2", fail_by_exit_value=False)
    @task(returns=int, out=TO_OUT)
    def called(word, out):
        pass

    assert called("a b", "out") == 5
    assert Path("out").read_text() == "['a b']\n"


def test_an_argument_that_is_no_word_is_an_error():
    @binary(binary="echo")
    @task()
    def called(what):
        pass

    with pytest.raises(ArgumentError, match="parameter 'what' is a object, which cannot be a word of a command"):
        called(object())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "needs binary="),
        ({"binary": "x", "args": "{{other}}"}, "names 'other', which is not a parameter"),
        ({"binary": "x", "working_dir": "{{other}}"}, "names 'other', which is not a parameter"),
        ({"binary": 5}, "5 is not text"),
        ({"binary": "x", "fail_by_exit_value": "perhaps"}, "neither True nor False"),
        ({"binary": "x", "engine": "LXC", "image": "y"}, "engine='LXC' is none of DOCKER"),
    ],
)
def test_a_mistake_is_an_error_at_decoration(options, what):
    with pytest.raises(TaskDeclarationError, match=rf"@binary on .*called \(.*test_binary.py:\d+\).*{what}"):

        @binary(**options)
        @task()
        def called(given):
            pass


def test_it_belongs_above_a_task():
    with pytest.raises(
        TaskDeclarationError, match="@binary on .*called, which is not a task: write @binary above @task"
    ):

        @binary(binary="x")
        def called():
            pass


@pytest.mark.parametrize(("decorator", "key"), [(ompss, "binary"), (opencl, "kernel")])
def test_others_run_a_program_too(decorator, key, lines):
    @decorator(**{key: lines})
    @task(out=TO_OUT)
    def called(word, out):
        pass

    assert printed_by(called, "x") == ["[x]"]


def test_a_script_of_julia_comes_before_the_arguments(programs, folder):
    programs("julia", "import sys; print(sys.argv[1:])")  # in place of Julia: shows what it is given

    @julia(script="$HERE/{{word}}.jl", working_dir=".")
    @task(out=TO_OUT)
    def called(word, out):
        pass

    @julia(script="a.jl", executor="julia", args="-d {{word}}")
    @task(out=TO_OUT)
    def templated(word, out):
        pass

    assert printed_by(called, "x") == ["['$HERE/x.jl', 'x']"]
    assert printed_by(templated, "x") == ["['a.jl', '-d', 'x']"]


def test_a_prolog_and_an_epilog_run_around_the_task(capfd):
    @prolog(binary="echo", args="before {{a}}_{{b}}")
    @epilog(binary="echo", params="after {{b}}")
    @task(returns=1)
    def called(a, b):
        print("task")
        return a + b

    assert called(1, 2) == 3
    assert capfd.readouterr().out == "before 1_2\ntask\nafter 2\n"


def test_a_prolog_that_fails_is_an_error_and_an_epilog_is_not(capfd):
    @prolog(binary="false", fail_by_exit_value=False)
    @epilog(binary="false")
    @task(returns=1)
    def tolerant():
        return 1

    @prolog(binary="false")
    @task(returns=1)
    def strict():
        raise AssertionError("it does not begin")

    @epilog(binary="false", fail_by_exit_value=True)
    @binary(binary="true")
    @task(returns=1)
    def strict_epilog():
        pass

    assert tolerant() == 1
    for called in (strict, strict_epilog):
        with pytest.raises(CommandError, match="false ended with exit value 1"):
            called()


def test_several_nodes_are_told_in_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    @multinode(computing_nodes="1", processes_per_node=2)
    @task(returns=1)
    def called():
        names = ("COMPSS_NUM_NODES", "COMPSS_NUM_PROCS", "COMPSS_NUM_THREADS", "OMP_NUM_THREADS")
        return [os.environ[name] for name in names]

    assert called() == ["1", "2", "1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "COMPSS_NUM_NODES" not in os.environ


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_command_ends_with_the_process_that_runs_it(folder, eventually):
    source = """
        from runmem.commands.decorators import binary
        from runmem.graph.task import task

        @binary(binary="sh", args="-c 'trap : TERM; sleep 1000 & echo $$ $! > pids; wait; wait; sleep 1000'")
        @task()
        def waits(): pass

        waits()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)])
    try:
        pids = eventually(lambda: Path("pids").exists() and [int(pid) for pid in Path("pids").read_text().split()])
    finally:
        process.kill()
        process.wait()
    eventually(lambda: all(has_ended(pid) for pid in pids))  # the shell does not mind SIGTERM
