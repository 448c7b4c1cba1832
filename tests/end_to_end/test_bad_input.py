"""Each mistake gets a message that says what happened and what to do; the exit code is 2, or the program's own."""

from __future__ import annotations

import shutil

import pytest

TASKS = """
from runmem import task, wait_on, INOUT

@task(returns=1)
def square(number):
    return number * number

@task(returns=1)
def read(stream, length=1):
    return 1

"""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("nope.py", "there is no program 'nope.py' here"),
        ("folder", "'folder' is a folder without a __main__.py"),
        ("binary.py", "'binary.py' is not a Python program: it is a binary file"),
        ("notes.txt", "'notes.txt' is not a Python program"),
    ],
)
def test_what_is_no_program_is_refused(tmp_path, runmem, program, said):
    (tmp_path / "folder").mkdir()
    shutil.copyfile("/bin/true", tmp_path / "binary.py")
    (tmp_path / "notes.txt").write_text("Dear all,\nplease find attached\n")
    ran = runmem(tmp_path, "--python_memory_profile", program, "argument")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("runmem: error: ")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert ran.runs == []


def test_nonsense_for_the_interval_is_refused_before_anything_is_made(tmp_path, runmem, write):
    write(tmp_path, "app.py", "print('the program ran')")
    ran = runmem(tmp_path, "--python_memory_profile", "--memory_interval", "0", "app.py")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "runmem: error: --memory_interval: '0' cannot be used: "
        "expected a number of seconds from 0.01 to 3600, such as 0.1.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        (
            "@task(returns=1, dta=INOUT)\ndef grown(data, by=1): pass",
            "@task(dta=...): grown(data, by=1) has no parameter 'dta'",
        ),
        (
            "@task(data='SIDEWAYS')\ndef grown(data, by=1): pass",
            "@task(data=...) of grown(data, by=1): 'SIDEWAYS' is not a direction; write one of IN, OUT, INOUT",
        ),
        ("@task(returns=-1)\ndef grown(data): pass", "@task on grown: returns=-1 is negative"),
        ("@task(returns='a shape')\ndef grown(data): pass", "returns='a shape' is neither a number nor the name"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_where_it_stands(tmp_path, runmem, write, declaration, said):
    path = write(tmp_path, "app.py", TASKS + declaration + "\nprint('the program went on')\n")
    line = path.read_text().splitlines().index(declaration.splitlines()[0]) + 1
    ran = runmem(tmp_path, "app.py")
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert f'File "{path}", line {line}, in <module>' in ran.err
    assert "runmem/graph" not in ran.err


@pytest.fixture(scope="module")
def newcomer(module_folder, runmem, write):
    """Run a program that makes every mistake with futures and arguments, one after the other, and catches it."""
    mistakes = {
        "unpicklable": "square(threading.Lock())",
        "unpicklable inside": "read(length=[1, {'a': (line for line in 'x')}], stream=1)",
        "too few": "square()",
        "misnamed": "square(3, nmber=3)",
        "plus": "square(3) + 1",
        "sum": "sum([square(1), square(2)])",
        "less": "square(3) < 4",
        "length": "len(square(3))",
        "loop": "[x for x in square(3)]",
        "item": "square(3)[0]",
        "attribute": "square(3).real",
        "format": "f'{square(3):.2f}'",
        "print": "print(square(3))",
        "text": "str(square(3))",
        "range": "range(square(3))",
        "value": "wait_on(square(3))",
    }
    source = TASKS + "import threading\n"
    for name, mistake in mistakes.items():
        source += (
            f"try:\n    print({name!r}, '->', {mistake})\n"
            f"except Exception as error:\n    print({name!r}, '->', type(error).__name__, error)\n"
        )
    write(module_folder, "app.py", source)
    ran = runmem(module_folder, "--workers=1", "app.py")
    assert ran.code == 0, ran.err
    return dict(line.split(" -> ", 1) for line in ran.out.splitlines() if " -> " in line)


@pytest.mark.parametrize(
    ("mistake", "parameter", "kind", "remedy"),
    [
        ("unpicklable", "number", "lock", "A lock guards nothing between processes: make it inside the task"),
        ("unpicklable inside", "length", "list", "Turn the generator into a list first"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named(newcomer, mistake, parameter, kind, remedy):
    assert newcomer[mistake].startswith("ArgumentError ")
    assert f"parameter {parameter!r} cannot be sent to a worker: a value of type {kind}" in newcomer[mistake]
    assert remedy in newcomer[mistake]


@pytest.mark.parametrize(
    ("mistake", "said"), [("too few", "missing a required argument: 'number'"), ("misnamed", "'nmber'")]
)
def test_a_call_that_does_not_fit_is_refused_with_the_signature(newcomer, mistake, said):
    assert newcomer[mistake].startswith("TypeError square(number): ")
    assert said in newcomer[mistake]


@pytest.mark.parametrize("mistake", ["plus", "sum", "less", "length", "loop", "item", "format", "range"])
def test_a_future_taken_for_its_value_says_wait_on(newcomer, mistake):
    assert newcomer[mistake].startswith("FutureError this is the future of task 'square', not its value")
    assert "get the value with wait_on first" in newcomer[mistake]


def test_an_attribute_of_the_value_says_wait_on(newcomer):
    assert newcomer["attribute"].startswith("FutureAttributeError ")
    assert "wait_on" in newcomer["attribute"]


def test_a_printed_future_says_wait_on(newcomer):
    assert newcomer["text"].startswith("<Future of square (call ")
    assert newcomer["text"].endswith("wait_on gives its value>")


def test_waiting_mends_it(newcomer):
    assert newcomer["value"] == "9"


class TestAFolderThatCannotBeWritten:
    """The super-user may write everywhere, so that a file stands where the folder should be."""

    @pytest.mark.parametrize("folder", ["taken", "taken/below"])
    def test_for_runs(self, tmp_path, runmem, write, folder):
        write(tmp_path, "app.py", "print('the program ran')")
        (tmp_path / "taken").touch()
        ran = runmem(tmp_path, "--run_folder", folder, "app.py")
        assert (ran.code, ran.out) == (2, "")
        assert f"the run directory cannot be made in {tmp_path / folder}: " in ran.err
        assert "--run_folder" in ran.err

    def test_for_traces(self, tmp_path, runmem, write, environment):
        write(tmp_path, "app.py", "print('the program ran')")
        (tmp_path / "taken").touch()
        env = environment(COMPSS_WORKER_PROFILE_PATH="taken")
        ran = runmem(tmp_path, "--python_memory_profile", "app.py", env=env)
        assert (ran.code, ran.out) == (2, "")
        assert f"the traces cannot be written to {tmp_path / 'taken'}: " in ran.err
        assert "COMPSS_WORKER_PROFILE_PATH" in ran.err

    def test_read_only(self, tmp_path, runmem, write, file_system):
        write(tmp_path, "app.py", "print('the program ran')")
        folder = file_system(tmp_path / "sealed", "ro")
        ran = runmem(folder, "../app.py")
        assert (ran.code, ran.out) == (2, "")
        assert f"cannot be made in {folder / 'runmem_runs'}: Read-only file system" in ran.err
