"""Targets on several processes, by real programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from types import SimpleNamespace

import psutil
import pytest
import yaml

from runmem.errors import SettingError
from runmem.task_runner import CmdLineTask, TaskRunner

MIB = 1024**2


def _runs(process: psutil.Process) -> bool:
    """Tell whether a process is there; one that has ended and that init has not reaped yet is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def data_id(record: dict) -> dict:
    return yaml.safe_load(record["data_id"])


def test_each_target_has_a_process_of_its_own_and_a_data_id_given_twice_is_one_target(either):
    either.write("""
        class Pids(CmdLineTask):
            _DefaultName = "pids"
            def runDataRef(self, ref):
                return os.getpid()
        print(*(result.result for result in Pids.parseAndRun(doReturnResults=True).resultList))
    """)
    done = either.run("--id", "n=1^2^3^1", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 3
    assert sorted(data_id(record)["n"] for record in either.records()) == [1, 2, 3]
    assert {str(record["target_pid"]) for record in either.records()} == set(done.stdout.split())


def test_the_peak_is_what_the_target_touched_whatever_ran_before(either):
    either.write("""
        class Fill(CmdLineTask):
            _DefaultName = "fill"
            def runDataRef(self, ref):
                return len(bytearray(b"1") * (ref.dataId["mib"] * 2**20))
        Fill.parseAndRun()
    """)
    done = either.run("--id", "mib=200^20^60^10", "-j", "2")
    assert done.returncode == 0, done.stderr
    for record in either.records():
        touched = data_id(record)["mib"] * MIB
        assert record["method"] == "hwm"
        assert touched - MIB // 2 < record["increment_bytes"] < touched + 3 * MIB
        assert record["base_bytes"] < 80 * MIB
        assert record["module"] == "app"
        assert record["name"] == "Fill.runDataRef"
        assert record["target_pid"] != record["pid"]


def test_a_timed_method_of_a_target_has_its_own_peak(program):
    program.write("""
        from runmem.pipe_base.time_method import timeMethod
        class Timed(CmdLineTask):
            _DefaultName = "timed"
            def runDataRef(self, ref):
                bytearray(b"1") * (100 * 2**20)
                self.fill(ref.dataId["mib"])
            @timeMethod
            def fill(self, mib):
                bytearray(b"1") * (mib * 2**20)
        for r in Timed.parseAndRun(doReturnResults=True).resultList:
            print(r.metadata["fillEndMaxResidentSetSize"] - r.metadata["fillStartMaxResidentSetSize"])
    """)
    done = program.run("--id", "mib=60^20", "-j", "2")
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert 59 * MIB < first < 62 * MIB  # some of it may be memory that Python had already
    assert 19 * MIB < second < 22 * MIB


def test_without_isolation_targets_run_in_the_workers(either):
    either.write("""
        class Pids(CmdLineTask):
            _DefaultName = "pids"
            def runDataRef(self, ref):
                return os.getpid()
        print(*{result.result for result in Pids.parseAndRun(doReturnResults=True).resultList})
    """)
    done = either.run("--id", "n=1..20", "-j", "2", "--no-isolation")
    assert done.returncode == 0, done.stderr
    assert 1 <= len(done.stdout.split()) <= 2
    assert {data_id(record)["n"] for record in either.records()} == set(range(1, 21))


FAILING = """
class Fails(CmdLineTask):
    _DefaultName = "fails"
    def runDataRef(self, ref):
        kind = ref.dataId["kind"]
        if kind == "raises":
            raise ValueError("no such star")
        if kind == "exits":
            sys.exit(0)
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "quits":
            os._exit(0)
        if kind == "hangs":
            time.sleep(1000)
        return kind
"""


def test_what_ends_one_target_fails_that_one_only_and_is_told(either):
    either.write(FAILING + "Fails.parseAndRun()\n")
    kinds = ["good", "raises", "exits", "killed", "quits", "hangs", "fine"]
    done = either.run("--id", "kind=" + "^".join(kinds), "-j", "2", "--timeout-per-target", "3")
    assert done.returncode == 5
    status = {data_id(record)["kind"]: record["status"] for record in either.records()}
    assert status == {
        "good": "finished", "fine": "finished", "raises": "failed", "exits": "failed", "killed": "killed",
        "quits": "killed", "hangs": "killed",
    }  # fmt: skip
    assert "5 of 7 targets failed" in done.stderr
    for told in (
        "dataId={'kind': 'raises'}: ValueError: no such star (node ",
        "dataId={'kind': 'exits'}: TargetError: the task called for an exit: sys.exit(0)",
        "dataId={'kind': 'killed'}: its process was killed by SIGKILL",
        "dataId={'kind': 'quits'}: its process ended by itself with exit code 0",
        "dataId={'kind': 'hangs'}: exceeded its time limit of 3 s",
    ):
        assert told in done.stderr
    report = subprocess.run(
        ["python", "-m", "runmem", "report", "--tasks"],
        cwd=either.folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": os.path.dirname(either.command()[0]) + ":" + os.environ["PATH"]},
    )  # fmt: skip
    assert "Fails.runDataRef" in report.stdout
    assert all(f"{{kind: '{kind}'}}" in report.stdout for kind in kinds)


HOLDING = """
import threading
class Holding(TaskRunner):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()
    def precall(self, parsedCmd):
        print("precall", flush=True)
        return parsedCmd.id.idList != [{"n": 0}]
    def makeTask(self, parsedCmd=None, args=None):
        task = super().makeTask(parsedCmd, args)
        task.number = args[0].dataId["n"]
        return task
class Held(CmdLineTask):
    RunnerClass = Holding
    _DefaultName = "held"
    def runDataRef(self, ref):
        return self.number
"""
DROPPING = """
class Dropping(Holding):
    def prepareForMultiProcessing(self):
        super().prepareForMultiProcessing()
        self.lock = None
Held.RunnerClass = Dropping
"""
PRINT_RESULTS = "print([r.result for r in Held.parseAndRun(doReturnResults=True).resultList])\n"


def test_what_cannot_travel_is_dropped_before_and_precall_runs_once(either):
    either.write(HOLDING + DROPPING + PRINT_RESULTS)
    done = either.run("--id", "n=1..3", "-j", "2")
    assert done.stdout == "precall\n[1, 2, 3]\n", done.stderr
    refused = either.run("--id", "n=0", "-j", "2")
    assert (refused.returncode, refused.stdout) == (1, "precall\n")


def test_what_cannot_travel_and_was_not_dropped_is_told_with_the_place_to_drop_it(program):
    program.write(HOLDING + PRINT_RESULTS)
    assert program.run("--id", "n=1..3").stdout == "precall\n[1, 2, 3]\n"
    done = program.run("--id", "n=1..3", "-j", "2")
    assert done.returncode == 1
    assert "Drop what cannot be pickled in prepareForMultiProcessing" in done.stderr


OWN_CALL = """
class Calls(TaskRunner):
    def __call__(self, target):
        kind = target[0].dataId["kind"]
        if kind == "exits":
            sys.exit(0)
        if kind == "interrupts":
            raise KeyboardInterrupt
        return kind
class Own(CmdLineTask):
    RunnerClass = Calls
    _DefaultName = "own"
if __name__ == "__main__":
    print(Own.parseAndRun(args=[*sys.argv[1:], "--noExit"]).resultList)
"""


@pytest.mark.parametrize("options", [["-j", "2"], ["-j", "2", "--no-isolation"]])
def test_an_exit_fails_its_target_only_whatever_calls_the_task(either, options):
    either.write(OWN_CALL)
    done = either.run("--id", "kind=good^exits^interrupts^fine", *options)
    assert done.stdout == "['good', Struct(exitStatus=1), Struct(exitStatus=1), 'fine']\n", done.stderr
    assert "dataId={'kind': 'exits'}: TargetError: the task called for an exit: sys.exit(0)" in done.stderr
    assert "dataId={'kind': 'interrupts'}: TargetError: the task called for an exit: KeyboardInterrupt" in done.stderr
    if "--no-isolation" in options:
        return
    raised = either.run("--id", "kind=good^exits", *options, "--doraise")
    assert raised.returncode == 1
    assert "TargetError: the task called for an exit: sys.exit(0)" in raised.stderr


def test_an_exit_fails_its_target_in_one_process_too(program):
    program.write(OWN_CALL)
    done = program.run("--id", "kind=good^exits^fine")
    assert done.stdout == "['good', Struct(exitStatus=1), 'fine']\n", done.stderr
    assert "1 of 3 targets failed" in done.stderr
    assert program.run("--id", "kind=exits", "--doraise").returncode == 1


@pytest.mark.parametrize("limit", [["--timeout", "1e12"], ["--timeout", "inf"], ["--timeout-per-target", "1e12"]])
def test_a_time_limit_may_be_as_long_as_anybody_likes(program, limit):
    program.write(OWN_CALL)
    assert program.run("--id", "kind=good", *limit).stdout == "['good']\n"


def test_a_target_that_takes_its_worker_along_fails_and_the_others_complete(either):
    either.write("""
        class Kills(CmdLineTask):
            _DefaultName = "kills"
            def runDataRef(self, ref):
                if ref.dataId["n"] == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return ref.dataId["n"]
        found = Kills.parseAndRun(doReturnResults=True, args=sys.argv[1:] + ["--noExit"])
        print(*(result.result for result in found.resultList))
    """)
    done = either.run("--id", "n=1..8", "-j", "2", "--no-isolation")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "2", "None", "4", "5", "6", "7", "8"]
    assert re.search(r"dataId={'n': 3}: .*(process was killed|process died)", done.stderr)
    assert {data_id(record)["n"] for record in either.records() if record["status"] == "killed"} == {3}


def test_the_exception_of_a_target_goes_up_on_request(either):
    either.write(FAILING + "Fails.parseAndRun()\n")
    done = either.run("--id", "kind=good^raises", "-j", "2", "--doraise")
    assert done.returncode == 1
    told = done.stderr[
        done.stderr.index("\nValueError: no such star\nraised by the target dataId={'kind': 'raises'} on node") :
    ]
    assert 'raise ValueError("no such star")' in told


def test_an_exception_that_takes_no_attributes_goes_up_as_itself(either):
    either.write("""
        from dataclasses import dataclass


        @dataclass(frozen=True)
        class BadPixel(Exception):
            x: int


        class BadTask(CmdLineTask):
            _DefaultName = "bad"

            def runDataRef(self, ref):
                raise BadPixel(ref.dataId["visit"])

        try:
            BadTask.parseAndRun()
        except BadPixel as error:
            print("caught", error.x, "raised by the target" in error.__notes__[0])
    """)
    done = either.run("--id", "visit=1", "--id", "visit=2", "-j", "2", "--doraise")
    assert done.stdout in ("caught 1 True\n", "caught 2 True\n"), done.stderr


@pytest.mark.slow
def test_the_time_of_the_whole_run_ends_it(either, request):
    either.write(FAILING + "Fails.parseAndRun()\n")
    limit_s = "10" if "cluster" in request.node.callspec.id else "5"  # a cluster starts in that time too
    done = either.run("--id", "kind=good^hangs", "-j", "2", "--timeout", limit_s)
    assert done.returncode == 1
    assert "before 1 of 2 targets had ended: dataId={'kind': 'hangs'}" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--timeout-per-target", "2"], "exceeded its time limit of 2 s"),
        (["--timeout", "2"], "the time of the run, 2 s, was up"),
    ],
)
def test_a_time_limit_holds_with_one_process_too(either, options, message):
    either.write(FAILING + "Fails.parseAndRun()\n")
    done = either.run("--id", "kind=hangs", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert "dataId={'kind': 'hangs'}" in done.stderr


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("kind", ["iter", "tuple", "set"])
def test_targets_may_be_any_iterable_of_what_cloudpickle_takes(program, processes, kind):
    program.write(f"""
        class Scaled:
            def __init__(self, scale):
                self.scale = scale

        class Runner(TaskRunner):
            @staticmethod
            def getTargetList(parsedCmd):
                return {kind}((ref.dataId["n"], Scaled(lambda n: n * 10)) for ref in parsedCmd.id.refList)
            def __call__(self, target):
                n, scaled = target
                return scaled.scale(n)

        class Scales(CmdLineTask):
            RunnerClass = Runner
            _DefaultName = "scales"

        print(sorted(Scales.parseAndRun(doReturnResults=True).resultList))
        """)
    done = program.run("--id", "n=1..3", "-j", processes)
    assert done.stdout == "[10, 20, 30]\n", done.stderr


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_call_that_returns_none_hides_no_failure_of_others(program, processes):
    program.write("""
        class Runner(TaskRunner):
            def __call__(self, target):
                result = super().__call__(target)
                return None if result.exitStatus == 0 else result

        class Odd(CmdLineTask):
            RunnerClass = Runner
            _DefaultName = "odd"
            def runDataRef(self, ref):
                assert ref.dataId["n"] != 2

        Odd.parseAndRun()
        """)
    assert program.run("--id", "n=1..3", "-j", processes).returncode == 1


@pytest.mark.parametrize("options", [["-j", "1"], ["-j", "2"], ["-j", "1", "--timeout", "2"]])
def test_the_time_limit_of_a_runners_own_holds(program, options):
    program.write(
        FAILING + "class Hasty(TaskRunner):\n    TIMEOUT = 2\n\nFails.RunnerClass = Hasty\nFails.parseAndRun()\n"
    )
    done = program.run("--id", "kind=hangs", *options)
    assert done.returncode == 1
    assert "the time of the run, 2 s, was up before 1 of 1 targets had ended" in done.stderr


def test_a_time_limit_of_30_days_is_one_too(program):
    program.write(FAILING + "Fails.parseAndRun()\n")
    assert program.run("--id", "kind=good", "--timeout", "2592000").returncode == 0
    assert [record["status"] for record in program.records()] == ["finished"]  # in a process beside the program


def test_a_time_limit_a_target_must_be_above_0():
    parsed = SimpleNamespace(config=None, log=None, doraise=False, timeoutPerTarget=0)
    with pytest.raises(SettingError, match="timeoutPerTarget=0: give seconds above 0"):
        TaskRunner(CmdLineTask, parsed)


def test_the_run_directory_tells_the_exit_code(program):
    program.write(FAILING + "Fails.parseAndRun()\n")
    done = program.run("--id", "kind=good^raises^quits", "-j", "2")
    (run_json,) = program.folder.glob("runmem_runs/*/run.json")
    assert json.loads(run_json.read_text())["exit_code"] == done.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("failures", [256, 257])
def test_any_number_of_failures_gives_a_code_that_is_not_zero(program, failures):
    program.write("""
        class Fails(CmdLineTask):
            _DefaultName = "fails"
            def runDataRef(self, ref):
                raise ValueError
        Fails.parseAndRun()
    """)
    assert program.run("--id", f"n=1..{failures}", "-j", "2").returncode == 255


def two_targets(program, master: subprocess.Popen) -> list[list[str]] | None:
    """Return the process numbers of the targets that have begun and of their children, None while there are fewer."""
    assert master.poll() is None, master.stderr and master.stderr.read()
    texts = [path.read_text().split() for path in program.folder.glob("began-*")]
    began = [words for words in texts if len(words) == 2]
    return began if len(began) == 2 else None


@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
def test_an_interrupt_ends_everything_and_leaves_no_process(either, isolation, eventually):
    either.write("""
        import subprocess
        class Sleeps(CmdLineTask):
            _DefaultName = "sleeps"
            def runDataRef(self, ref):
                child = subprocess.Popen(["sleep", "1000"])
                open(f"began-{ref.dataId['n']}", "w").write(f"{os.getpid()} {child.pid}")
                time.sleep(1000)
        Sleeps.parseAndRun()
    """)
    command = either.command("--id", "n=1..4", "-j", "2", *isolation)
    master = subprocess.Popen(command, cwd=either.folder, stderr=subprocess.PIPE)
    try:
        began = eventually(lambda: two_targets(either, master))
        family = psutil.Process(master.pid).children(recursive=True)
        pids = {process.pid for process in family}
        assert {int(pid) for words in began for pid in words} <= pids
        master.send_signal(signal.SIGINT)
        assert master.wait(timeout=60) != 0
        _, alive = psutil.wait_procs(family, timeout=60)
        assert [process for process in alive if _runs(process)] == []
        (run_json,) = either.folder.glob("runmem_runs/*/run.json")
        assert json.loads(run_json.read_text())["exit_code"] == 128 + signal.SIGINT
    finally:
        master.kill()
        master.wait()


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_a_cluster_that_is_starting(program, eventually):
    program.write("""
        TaskRunner.localPool = False
        class Sleeps(CmdLineTask):
            _DefaultName = "sleeps"
            def runDataRef(self, ref):
                time.sleep(1000)
        Sleeps.parseAndRun()
    """)
    (program.folder / "slow.py").write_text("import time\nopen('starting', 'w').close()\ntime.sleep(1000)\n")
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": f"{program.folder}/slow.py"}
    command = program.command("--id", "n=1..4", "-j", "2")
    master = subprocess.Popen(command, cwd=program.folder, env=environment)
    try:
        eventually((program.folder / "starting").exists)
        family = psutil.Process(master.pid).children(recursive=True)
        master.send_signal(signal.SIGINT)
        assert master.wait(timeout=60) != 0
        _, alive = psutil.wait_procs(family, timeout=60)
        assert [process for process in alive if _runs(process)] == []
    finally:
        master.kill()
        master.wait()


@pytest.mark.slow
def test_a_caught_interrupt_ends_the_targets_of_a_run_that_goes_on(program, eventually):
    program.write("""
        import subprocess
        from runmem import task, wait_on
        class Sleeps(CmdLineTask):
            _DefaultName = "sleeps"
            def runDataRef(self, ref):
                child = subprocess.Popen(["sleep", "1000"])
                open(f"began-{ref.dataId['n']}", "w").write(f"{os.getpid()} {child.pid}")
                time.sleep(1000)
        @task(returns=1)
        def after():
            return "goes on"
        try:
            Sleeps.parseAndRun()
        except KeyboardInterrupt:
            print(wait_on([after(), after()]), flush=True)
            print(sorted(name for name in os.listdir() if name.startswith("began")))
    """)
    command = [program.command()[0], "-m", "runmem", "--workers=2", "app.py", "data", "--id", "n=1..40", "-j", "2"]
    master = subprocess.Popen(command, cwd=program.folder, stdout=subprocess.PIPE, text=True)
    try:
        began = eventually(lambda: two_targets(program, master))
        targets = [psutil.Process(int(pid)) for words in began for pid in words]
        master.send_signal(signal.SIGINT)
        told = master.communicate(timeout=60)[0].splitlines()
        assert told == ["['goes on', 'goes on']", str(sorted(path.name for path in program.folder.glob("began-*")))]
        assert len(list(program.folder.glob("began-*"))) == 2
        assert master.returncode == 0
        assert [target for target in targets if _runs(target)] == []
    finally:
        master.kill()
        master.wait()


def test_a_target_has_the_name_of_the_programs_file_and_one_thread_of_numpy_unless_more_are_allowed(either):
    either.write("""
        class Looks(CmdLineTask):
            _DefaultName = "looks"
            def runDataRef(self, ref):
                import numpy, threadpoolctl
                numpy.ones((100, 100)) @ numpy.ones((100, 100))
                threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
                return os.path.basename(type(self).runDataRef.__code__.co_filename), threads
        if __name__ == "__main__":
            print([r.result for r in Looks.parseAndRun(doReturnResults=True).resultList])
    """)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment.pop("LSST_ALLOW_IMPLICIT_THREADS", None)
    for options in ([], ["--no-isolation"]):
        off = either.run("--id", "n=1", "-j", "2", *options, env=environment)
        assert off.stdout.strip() == "[('app.py', [1])]", off.stderr
    if os.cpu_count() > 1:
        allowed = {**environment, "LSST_ALLOW_IMPLICIT_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"}
        on = either.run("--id", "n=1", "-j", "2", env=allowed)
        assert on.stdout.strip() == "[('app.py', [2])]", on.stderr


@pytest.mark.slow
def test_results_that_nobody_asked_for_stay_out_of_the_memory_of_the_program(either):
    either.write("""
        from runmem.memory.process import own_process
        class Large(CmdLineTask):
            _DefaultName = "large"
            def runDataRef(self, ref):
                return b"1" * 2**20
        Large.parseAndRun(args=["data", "--id", "n=0", "-j", "2"])
        before = own_process().resident_bytes()
        assert len(Large.parseAndRun().resultList) == 300
        print(own_process().resident_bytes() - before)
    """)
    done = either.run("--id", "n=1..300", "-j", "2", "--no-isolation")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * MIB / 5
