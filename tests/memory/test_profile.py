"""`@profile` reports every call of any callable, even if it raises, and does not affect the call."""

import asyncio
import functools
import inspect
import io
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest

from runmem.errors import SettingError
from runmem.memory import profile_report
from runmem.memory.profile import Profile, ProfileReport, profile, set_job_name, set_report_sink
from runmem.units import MIB

SOURCE = str(Path(__file__).parents[2] / "src")
EXACT = sys.platform.startswith("linux")
ROW = re.compile(r"\s*(\d+)\s+(-?[\d.]+) MiB\s+(-?[\d.]+) MiB\s+(\d+)   (.*)")


@pytest.fixture
def reports(monkeypatch):
    """The reports of the test, in a list instead of on standard output."""
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    found: list[ProfileReport] = []
    set_report_sink(found.append)
    yield found
    set_report_sink(None)


def rows(report):
    """Return the rows with values: text of the line to (increment in MiB, occurrences)."""
    matches = [ROW.fullmatch(line) for line in report.text.splitlines()]
    return {m[5].strip(): (float(m[3]), int(m[4])) for m in matches if m}


def run_program(text, tmp_path, name="program.py", **environment):
    path = tmp_path / name
    path.write_text(text)
    env = {**os.environ, "PYTHONPATH": SOURCE, **environment}
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, timeout=60)


class Task:
    """What `@task` makes of a function: a callable object; here the body runs elsewhere, or (sequential) at once."""

    def __init__(self, function, sequential):
        functools.update_wrapper(self, function)
        self.function = function
        self.sequential = sequential
        self.priority = 3

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs) if self.sequential else "future"


@profile()
def increment(value):
    a = [1] * (10 ** 6)  # fmt: skip
    b = [2] * (value * 10 ** 6)  # fmt: skip
    c = [3] * (value * 10 ** 7)  # fmt: skip
    del b
    return value + 1 + 0 * len(a) * len(c)


def assert_manual_increments(report, value):
    found = [rows(report)[row.strip()][0] for row in inspect.getsource(increment).splitlines()[2:]]
    expected = [7.63, value * 7.63, value * 76.29, value * -7.63, 0.0]
    assert found == pytest.approx(expected, abs=0.3)


MANUAL = f"""
import threading
from runmem.memory.profile import profile, set_report_sink

found = []
set_report_sink(found.append)

{inspect.getsource(increment)}

def calls(*values):
    for value in values:
        assert increment(value) == value + 1

"""


def manual_reports(tmp_path, calls):
    """Return the report of the example from a new process, since in this one other threads free memory too."""
    done = run_program(MANUAL + calls + "\nprint('\\f'.join(report.text for report in found))\n", tmp_path)
    assert done.returncode == 0, done.stderr
    return [ProfileReport("increment", "program.py", text, True, None) for text in done.stdout.split("\f")]


@pytest.mark.skipif(not EXACT, reason="the allocator of macOS keeps what is freed")
def test_the_example_of_the_manual_is_reproduced_at_every_call(tmp_path):
    values = (3, 3, 1, 3)
    reports = manual_reports(tmp_path, f"calls(*{values})")
    for report, value in zip(reports, values, strict=True):
        assert_manual_increments(report, value)


@pytest.mark.skipif(not EXACT, reason="the allocator of macOS keeps what is freed")
def test_the_example_works_in_a_thread(tmp_path):
    reports = manual_reports(
        tmp_path, "thread = threading.Thread(target=calls, args=(3, 2)); thread.start(); thread.join(60)"
    )
    for report, value in zip(reports, (3, 2), strict=True):
        assert_manual_increments(report, value)


def test_the_full_report_ends_with_values_of_this_process_and_their_units(reports):
    set_job_name("task 17")
    try:
        increment(1)
    finally:
        set_job_name("master")
    summary = reports[0].text.split("\n\n\n")[1].splitlines()
    size = r"\d+\.\d MiB"
    patterns = [
        "Job name: task 17",
        r"Task start time: \d{10}\.\d{3} s since the epoch",
        r"Elapsed time: \d+\.\d{6} s",
        f"Initial memory: {size}",
        f"Final memory: {size}",
        rf"Peak memory: {size} \(.+\)",
    ]
    for pattern, line in zip(patterns, summary, strict=False):
        assert re.fullmatch(pattern, line), line
    assert reports[0].full_report
    assert reports[0].name == "increment"


def test_the_peak_of_the_full_report_is_not_below_any_line(reports):
    increment(3)
    largest = max(float(m[2]) for line in reports[0].text.splitlines() if (m := ROW.fullmatch(line)))
    assert reports[0].peak_bytes / MIB > largest - 0.06


def test_the_short_report_is_one_line_with_the_exact_peak_of_a_spike_inside_an_expression(reports):
    @profile(full_report=False, precision=2)
    def spike(size):
        return len(bytearray(b"x") * size)

    spike(1)
    spike(200 * MIB)
    low, high = (report.peak_bytes for report in reports)
    if EXACT:
        assert abs(high - low - 200 * MIB) < 2 * MIB
    assert reports[1].text == f"{__file__} spike {high / MIB:.2f} MiB\n"
    assert not reports[1].full_report


def test_a_path_with_a_space_is_quoted_as_in_a_shell(tmp_path):
    text = "from runmem.memory.profile import profile\n@profile(full_report=False)\ndef f(): pass\nf()\n"
    done = run_program(text, tmp_path, "my program.py")
    assert shlex.split(done.stdout)[:2] == [str(tmp_path / "my program.py"), "f"]
    assert done.stdout.startswith("'")


@pytest.mark.parametrize("full_report", [True, False])
def test_a_call_that_raises_is_reported_and_raises(reports, full_report):
    @profile(full_report=full_report)
    def fails():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fails()
    assert len(reports) == 1
    if full_report:
        assert rows(reports[0])['raise ValueError("mine")'][1] == 1


@dataclass(frozen=True)
class BadPixel(Exception):
    x: int


def test_an_exception_that_takes_no_attributes_stays_what_it_is(reports):
    @profile
    def fails():
        raise BadPixel(3)

    @profile
    def yields():
        yield 1
        raise BadPixel(3)

    @profile
    async def waits():
        await asyncio.sleep(0)
        raise BadPixel(3)

    for call in (fails, lambda: list(yields()), lambda: asyncio.run(waits())):
        with pytest.raises(BadPixel):
            call()
    assert len(reports) == 3


def test_every_way_of_decorating_works(reports):
    def plain(a):
        return a

    for decorator in (profile, profile(), profile(full_report=False), Profile, Profile(), Profile(precision=0)):
        assert decorator(plain)(5) == 5
    assert [report.full_report for report in reports] == [True, True, False, True, True, True]


def test_over_a_sequential_task_the_lines_of_the_body_are_filled(reports):
    def body(a):
        b = a
        return b

    assert profile(Task(body, sequential=True))(4) == 4
    assert rows(reports[0])["return b"][1] == 1


def test_over_a_distributed_task_only_the_first_row_has_values(reports):
    def body(a):
        b = a
        return b

    assert profile(Task(body, sequential=False))(4) == "future"
    assert list(rows(reports[0])) == ["def body(a):"]
    assert "        return b" in reports[0].text


def test_over_a_task_its_attributes_and_signature_pass_through():
    def body(a, *, b=2):
        return a

    wrapper = profile(Task(body, sequential=True))
    assert wrapper.priority == 3
    assert wrapper.function is body
    assert str(inspect.signature(wrapper)) == "(a, *, b=2)"
    assert wrapper.__name__ == "body"


class Counter:
    """Counts."""

    def __init__(self, start):
        self.count = start

    @profile
    def method(self, by):
        self.count += by
        return self.count

    @profile
    @staticmethod
    def below_static(a):
        return a

    @classmethod
    @profile
    def above_class(cls, a):
        return cls, a

    @profile
    @classmethod
    def below_class(cls, a):
        return cls, a

    def __call__(self, by):
        self.count += by
        return self.count


def test_methods_static_and_class_methods_bind_and_are_reported(reports):
    counter = Counter(1)
    assert counter.method(2) == 3
    assert Counter.below_static(4) == 4
    assert counter.above_class(5) == (Counter, 5)
    assert Counter.below_class(6) == (Counter, 6)
    assert [report.name for report in reports] == ["method", "below_static", "above_class", "below_class"]
    assert rows(reports[0])["self.count += by"][1] == 1


def test_partials_callable_objects_bound_methods_and_builtins_work(reports):
    def add(a, b):
        return a + b

    assert profile(functools.partial(add, 1))(2) == 3
    assert rows(reports[-1])["return a + b"][1] == 1
    assert profile(Counter(1))(2) == 3
    assert reports[-1].name == "Counter"
    assert rows(reports[-1])["return self.count"][1] == 1
    assert profile(Counter(1).__call__)(5) == 6
    assert rows(reports[-1])["return self.count"][1] == 1
    assert profile(len)([1, 2]) == 2
    assert reports[-1].name == "len"


def test_below_another_decorator_the_source_is_the_users_and_not_the_wrappers(reports):
    def other(function):
        @functools.wraps(function)
        def between(*args):
            return function(*args)

        return between

    @profile
    @other
    def users(a):
        b = a
        return b

    assert users(1) == 1
    assert rows(reports[0])["b = a"][1] == 1


def test_recursion_reports_every_level_with_its_own_lines(reports):
    @profile
    def down(n):
        if n:
            down(n - 1)
        return n

    down(2)
    assert [rows(report)["return n"][1] for report in reports] == [1, 1, 1]
    assert ["down(n - 1)" in rows(report) for report in reports] == [False, True, True]


def test_a_generator_is_reported_at_its_end_without_what_its_user_took(reports):
    @profile
    def numbers(n):
        got = []
        for i in range(n):
            got.append((yield i))
        return got

    held = []

    def use():
        generator = numbers(3)
        held.append(next(generator))
        for _ in range(2):
            held.append([0] * 10**6)
            held.append(generator.send("sent"))
        result = yield from generator
        held.append(result)

    list(use())
    assert [value for value in held if not isinstance(value, list)] == [0, 1, 2]
    assert held[-1] == ["sent", "sent", None]
    assert inspect.isgeneratorfunction(numbers)
    assert abs(rows(reports[0])["got.append((yield i))"][0]) < 1
    assert len(reports) == 1


def test_a_generator_that_is_closed_or_thrown_into_behaves_as_its_own(reports):
    seen = []

    @profile
    def catching():
        while True:
            try:
                yield 1
            except KeyError as error:
                seen.append(error.args)
            except GeneratorExit:
                seen.append("closed")
                raise

    generator = catching()
    next(generator)
    assert generator.throw(KeyError("k")) == 1
    generator.close()
    assert seen == [("k",), "closed"]
    assert len(reports) == 1


def test_coroutines_and_asynchronous_generators_are_reported_at_their_end(reports):
    @profile
    async def twice(a):
        await asyncio.sleep(0)
        return 2 * a

    @profile
    async def count(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def main():
        return await asyncio.gather(twice(1), twice(2)), [i async for i in count(3)]

    assert asyncio.run(main()) == ([2, 4], [0, 1, 2])
    assert inspect.iscoroutinefunction(twice)
    assert [report.name for report in reports] == ["twice", "twice", "count"]
    assert all(rows(report)["return 2 * a"][1] == 1 for report in reports[:2])
    assert rows(reports[2])["for i in range(n):"][1] == 4


MAIN = """
import cloudpickle, pickle, sys
from runmem.memory.profile import profile
@profile()
def f(a):
    b = a
    return b
sys.stdout.buffer.write(cloudpickle.dumps(f))
"""


def test_a_function_of_the_main_program_travels_with_the_text_of_its_lines(tmp_path, reports):
    path = tmp_path / "program.py"
    path.write_text(MAIN)
    env = {**os.environ, "PYTHONPATH": SOURCE}
    pickled = subprocess.run([sys.executable, str(path)], capture_output=True, env=env, check=True, timeout=60).stdout
    path.unlink()
    assert cloudpickle.loads(pickled)(3) == 3
    assert rows(reports[0])["b = a"][1] == 1


def test_an_importable_function_is_pickled_by_reference():
    assert cloudpickle.loads(cloudpickle.dumps(increment)) is increment
    assert len(cloudpickle.dumps(increment)) < 200


def _in_daemon(queue):
    set_report_sink(lambda report: queue.put(report.text))
    increment(1)


def test_it_works_in_a_daemonic_process():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_daemon, args=(queue,), daemon=True)
    process.start()
    assert "return value + 1" in queue.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0


WRITING = """
from runmem.memory.profile import profile
@profile(precision=3)
def f(a):
    b = a
    return b
for i in range(40):
    f(i)
"""


def test_reports_of_several_processes_are_whole_in_the_profiling_file(tmp_path):
    (tmp_path / "program.py").write_text(WRITING)
    env = {**os.environ, "PYTHONPATH": SOURCE, "COMPSS_PROFILING_FILE": "reports.txt"}
    command = [sys.executable, str(tmp_path / "program.py")]
    running = [subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate(timeout=60)[0] for process in running] == [b""] * 4
    text = re.sub(r"\d+(\.\d+)? ", "N ", (tmp_path / "reports.txt").read_text())
    parts = [part for part in text.split("Filename: ") if part]
    assert len(parts) == 160
    assert {re.sub(r"\s+", " ", part) for part in parts} == {re.sub(r"\s+", " ", parts[0])}


def test_a_profiling_file_that_cannot_be_written_is_named_once_and_standard_output_is_used(tmp_path):
    done = run_program(WRITING, tmp_path, COMPSS_PROFILING_FILE=str(tmp_path / "no" / "file"))
    assert done.returncode == 0
    assert done.stdout.count("Filename: ") == 40
    assert done.stderr.count(f"{tmp_path}/no/file") == 1


def test_the_profiling_file_and_the_sink_get_the_report(tmp_path, reports, monkeypatch, capsys):
    monkeypatch.setenv("COMPSS_PROFILING_FILE", str(tmp_path / "file"))
    increment(1)
    assert (tmp_path / "file").read_text() == reports[0].text
    assert capsys.readouterr().out == ""


def test_without_a_sink_the_report_is_printed(capsys, monkeypatch):
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    increment(1)
    assert capsys.readouterr().out.startswith(f"Filename: {__file__}\n\nLine #")


def test_a_stream_takes_the_report(capsys, monkeypatch):
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    stream = io.StringIO()
    assert profile(abs, stream=stream)(-1) == 1
    assert stream.getvalue().startswith("Filename: ")
    assert capsys.readouterr().out == ""


def test_a_failing_sink_does_not_fail_the_call_and_is_reported_once(capsys):
    def full(report):
        raise OSError("disk full, says the test")

    set_report_sink(full)
    try:
        assert increment(1) == 2
        assert increment(1) == 2
    finally:
        set_report_sink(None)
    assert capsys.readouterr().err.count("disk full, says the test") == 1


def test_an_unknown_backend_is_refused_with_the_names_of_those_that_exist():
    with pytest.raises(SettingError, match=r"'psutl'.*psutil, posix"):
        profile(backend="psutl")


def test_a_backend_that_means_something_else_warns():
    with pytest.warns(UserWarning, match="resident set sizes"):
        profile(backend="tracemalloc")


def test_an_invalid_precision_is_refused():
    with pytest.raises(SettingError, match=r"precision=-1"):
        profile(precision=-1)


def test_a_sampled_and_shared_peak_is_labelled_in_the_full_report_only():
    from runmem.memory.lines import LineProfile
    from runmem.memory.peak import PeakReading

    peak = PeakReading(MIB, 3 * MIB, 2 * MIB, "sampled", True, None, "the mark cannot be reset")
    full = profile_report.compose("f", "/f.py", LineProfile("/f.py", ()), peak, (1.0, 2.0), 1).text
    assert "Peak memory: 3.0 MiB (sampled, the true peak may be higher; shared, another task" in full
    assert "the mark cannot be reset)" in full
    assert profile_report.compose("f", "/f.py", None, peak, (1.0, 2.0), 1).text == "/f.py f 3.0 MiB\n"


@pytest.mark.parametrize("kind", ["nothing", "file", "device", "pipe", "link to a file", "link to nothing"])
def test_a_profiling_file_is_appended_to_what_is_there(kind, make_target, tmp_path, reports, monkeypatch):
    target = make_target(kind, tmp_path / "reports.txt")
    monkeypatch.setenv("COMPSS_PROFILING_FILE", str(target.path))
    increment(1)
    increment(2)
    target.check()
    if target.keeps_content:
        assert target.content().decode().endswith(reports[0].text + reports[1].text)


def test_an_invalid_profiling_file_is_named_and_kept(refused_kind, make_target, tmp_path, capsys, monkeypatch):
    target = make_target(refused_kind, tmp_path / "reports.txt")
    monkeypatch.setenv("COMPSS_PROFILING_FILE", str(target.path))
    increment(1)
    told = capsys.readouterr()
    assert "Filename: " in told.out
    assert f"COMPSS_PROFILING_FILE={target.path}: the file cannot be written (" in told.err
    if refused_kind == "block device":
        assert "(it is a block device)" in told.err
    target.check()
