"""Targets in a pool of processes forked from the program, by real programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pytest
import yaml

SLEEPS = """
class Sleeps(CmdLineTask):
    _DefaultName = "sleeps"
    def runDataRef(self, ref):
        time.sleep(float(ref.dataId["s"]))
"""


def provenance(program) -> dict:
    (run_json,) = program.folder.glob("runmem_runs/*/run.json")
    return json.loads(run_json.read_text())


def numbers(program) -> list[int]:
    return sorted(record["task_id"] for record in program.records())


def most_at_once(records: list[dict]) -> int:
    """Return how many targets ran at the same time."""
    changes = [(record["start_s"], 1) for record in records] + [(record["end_s"], -1) for record in records]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_a_short_run_starts_no_cluster_and_has_the_same_records(program):
    program.write(
        SLEEPS + "Sleeps.parseAndRun(args=sys.argv[1:] + ['--noExit'])\nprint('distributed' in sys.modules)\n"
    )
    done = program.run("--id", "s=0.2^0.21^0.22", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
    assert {yaml.safe_load(record["data_id"])["s"] for record in program.records()} == {"0.2", "0.21", "0.22"}
    assert numbers(program) == [1, 2, 3]
    assert len({record["pid"] for record in program.records()}) == 2
    assert (provenance(program)["workers"], provenance(program)["calls"]) == (2, 3)
    assert provenance(program)["records_complete"]


@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
def test_a_long_target_keeps_its_process_and_the_other_one_runs_all_that_is_left(program, isolation):
    program.write("""
        from pathlib import Path
        class Waits(CmdLineTask):
            _DefaultName = "waits"
            def runDataRef(self, ref):
                n = ref.dataId["n"]
                while n == 1 and len(list(Path().glob("ended*"))) < 40:
                    time.sleep(0.01)
                open(f"ended{n}", "w").close()
        Waits.parseAndRun(args=sys.argv[1:] + ["--noExit"])
        print("distributed" in sys.modules)
    """)
    done = program.run("--id", "n=1..41", "-j", "2", *isolation)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    records = program.records()
    assert numbers(program) == list(range(1, 42))
    assert len({record["data_id"] for record in records}) == 41
    pids = {record["task_id"]: record["pid"] for record in records}
    assert {pids[number] for number in range(2, 42)} == set(pids.values()) - {pids[1]}
    assert len(set(pids.values())) == 2
    assert most_at_once(records) == 2
    assert (provenance(program)["calls"], provenance(program)["records_complete"]) == (41, True)


def test_a_program_with_threads_is_not_forked(program):
    program.write(
        SLEEPS
        + """
import threading
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
Sleeps.parseAndRun(args=sys.argv[1:] + ['--noExit'])
print('distributed' in sys.modules)
"""
    )
    done = program.run("--id", "s=0.01^0.02", "-j", "2")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert numbers(program) == [1, 2]


def test_a_target_that_uses_more_memory_than_a_worker_may_is_ended_and_its_record_says_so(program):
    program.write("""
        class Grows(CmdLineTask):
            _DefaultName = "grows"
            def runDataRef(self, ref):
                held = bytearray(b"1") * (ref.dataId["mib"] * 2**20)
                time.sleep(20 if len(held) > 200 * 2**20 else 0)
        Grows.parseAndRun()
    """)
    environment = {**os.environ, "RUNMEM_WORKER_MEMORY": "250MiB"}
    done = program.run("--id", "mib=10^400^20", "-j", "2", "--no-isolation", env=environment)
    assert done.returncode == 1, done.stderr
    assert "used more than 95 % of its memory limit" in done.stderr
    killed = [record for record in program.records() if record["status"] == "killed"]
    assert [yaml.safe_load(record["data_id"])["mib"] for record in killed] == [400]
    assert "used more than 95 % of its memory limit" in killed[0]["reason"]
    death = killed[0]["death"]
    assert (death["limit_bytes"], death["beside"] is None) == (250 * 2**20, False)
    assert death["node_free_bytes"] > 2**20
    assert numbers(program) == [1, 2, 3]


@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
def test_no_process_outlives_a_program_that_was_killed(program, isolation, eventually):
    program.write(SLEEPS + "Sleeps.parseAndRun()\n")
    master = subprocess.Popen(program.command("--id", "s=1000^1001", "-j", "2", *isolation), cwd=program.folder)
    try:
        expected = 5 if not isolation else 3  # with the dispatcher
        eventually(lambda: len(psutil.Process(master.pid).children(recursive=True)) >= expected)
        family = psutil.Process(master.pid).children(recursive=True)
        master.send_signal(signal.SIGKILL)
        master.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        master.kill()
        master.wait()


MIXED = """
class Mixed(CmdLineTask):
    _DefaultName = "mixed"
    def runDataRef(self, ref):
        what = str(ref.dataId["what"])
        if what.startswith("long"):
            open(what, "w").close()
            time.sleep(1000)
        if what.startswith("dies"):
            time.sleep(0.5)
            os.kill(os.getpid(), 9)
        if what.startswith("closes"):
            os.closerange(3, 1000)
            time.sleep(1)
        return what
"""


def statuses(program) -> dict[str, str]:
    return {yaml.safe_load(record["data_id"])["what"]: record["status"] for record in program.records()}


def test_what_has_ended_before_an_interrupt_is_recorded_and_what_runs_too(program, eventually):
    program.write(MIXED + "Mixed.parseAndRun()\n")
    quick = [f"quick{n}" for n in range(20)]
    ids = "^".join([*quick, "long1", "long2", "quick20"])
    command = program.command("--id", f"what={ids}", "-j", "2", "--no-isolation")
    master = subprocess.Popen(command, cwd=program.folder)
    try:
        eventually((program.folder / "long2").exists)
        master.send_signal(signal.SIGINT)  # at once: the program has not looked yet what came
        assert master.wait(30) == -signal.SIGINT
    finally:
        master.kill()
        master.wait()
    assert statuses(program) == {**dict.fromkeys(quick, "finished"), "long1": "killed", "long2": "killed"}
    running = [record for record in program.records() if record["status"] == "killed"]
    assert all(record["base_bytes"] > 2**20 and record["start_s"] > 1e9 for record in running)
    assert {record["reason"] for record in running} == {"the program has given up this call"}
    assert (provenance(program)["calls"], provenance(program)["calls_recorded"]) == (22, 22)


def test_a_target_that_takes_its_process_along_leaves_those_before_it_and_a_record_of_its_own(program):
    program.write(MIXED + "print([r.result for r in Mixed.parseAndRun(doReturnResults=True, args=sys.argv[1:] +"
                  " ['--noExit']).resultList])\n")  # fmt: skip
    done = program.run("--id", "what=quick1^quick2^dies^quick3", "-j", "2", "--no-isolation")
    assert done.stdout == "['quick1', 'quick2', None, 'quick3']\n", done.stderr
    assert statuses(program) == {"quick1": "finished", "quick2": "finished", "dies": "killed", "quick3": "finished"}
    (killed,) = [record for record in program.records() if record["status"] == "killed"]
    assert killed["base_bytes"] > 2**20
    assert "killed by SIGKILL" in killed["reason"]


def test_a_target_that_closes_the_files_of_its_process_fails_and_the_run_ends(program):
    program.write(MIXED + "Mixed.parseAndRun()\n")
    done = program.run("--id", "what=quick1^closes^quick2", "-j", "2", "--no-isolation")
    assert done.returncode == 1
    assert "its process ended by itself with exit code 1" in done.stderr
    assert statuses(program) == {"quick1": "finished", "closes": "killed", "quick2": "finished"}


CLOSES = """
class Closes(CmdLineTask):
    _DefaultName = "closes"
    def runDataRef(self, ref):
        what = str(ref.dataId["what"])
        if what == "quick":
            return what
        os.closerange(0 if what == "closes-streams-too" else 3, 1000)
        if what == "opens":
            self.others = [open(f"other{n}", "w") for n in range(100)]  # one of them has the number of the connection
        if what == "forks":
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        if what == "hangs":
            open("hangs", "w").write(str(os.getpid()))
            time.sleep(1000)
        return what
Closes.parseAndRun()
"""


@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
@pytest.mark.parametrize("what", ["closes", "closes-streams-too", "opens", "forks"])
def test_a_target_that_closes_all_files_fails_whatever_it_does_then(program, what, isolation):
    program.write(CLOSES)
    done = program.run("--id", f"what={what}^quick", "-j", "2", *isolation)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 targets failed" in done.stderr
    assert statuses(program) == {what: "killed", "quick": "finished"}
    assert all(path.read_bytes() == b"" for path in program.folder.glob("other*"))
    assert (provenance(program)["calls"], provenance(program)["records_complete"]) == (2, True)


def test_a_target_that_closes_all_files_and_hangs_is_ended_with_the_time_of_the_run(program):
    program.write(CLOSES)
    done = program.run("--id", "what=hangs^quick", "-j", "2", "--no-isolation", "--timeout", "3")
    assert done.returncode == 1
    assert "before 1 of 2 targets had ended: dataId={'what': 'hangs'}" in done.stderr
    assert statuses(program) == {"hangs": "killed", "quick": "finished"}
    assert not psutil.pid_exists(int((program.folder / "hangs").read_text()))


ENDS_PROCESS = """
class Ends(CmdLineTask):
    _DefaultName = "ends"
    def runDataRef(self, ref):
        n = ref.dataId["n"]
        if ref.dataId["how"] == "leaves":
            pid = os.fork()
            if pid == 0:
                time.sleep(1000)
            open(f"left{n}", "w").write(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)
Ends.parseAndRun()
"""


def test_each_of_many_targets_that_end_their_process_is_recorded_and_another_process_takes_the_next(program):
    program.write(ENDS_PROCESS)
    done = program.run("--id", "how=dies", "n=1..12", "-j", "2", "--no-isolation")
    assert done.returncode == 12, done.stderr
    records = program.records()
    assert numbers(program) == list(range(1, 13))
    assert {record["status"] for record in records} == {"killed"}
    assert all("killed by SIGKILL" in record["reason"] for record in records)
    assert len({record["target_pid"] for record in records}) == 12
    assert provenance(program)["records_complete"]


def test_a_process_that_dies_is_noticed_though_one_that_it_has_forked_holds_its_connection(program):
    program.write(ENDS_PROCESS)
    done = program.run("--id", "how=leaves", "n=1..3", "-j", "2", "--no-isolation")
    assert done.returncode == 3, done.stderr
    left = [int(path.read_text()) for path in program.folder.glob("left*")]
    assert len(left) == 3
    assert not [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_a_task_that_cannot_be_loaded_in_another_process_is_an_error_of_the_run(program):
    program.write("""
        class Returns(CmdLineTask):
            _DefaultName = "returns"
            def runDataRef(self, ref):
                return 1
        class Refuses:
            def __reduce__(self):
                return fails, ()
        def fails():
            raise LookupError("no such catalogue")
        class Holds(TaskRunner):
            def prepareForMultiProcessing(self):
                super().prepareForMultiProcessing()
                self.catalogue = Refuses()
        Returns.RunnerClass = Holds
        Returns.parseAndRun()
    """)
    for isolation in ([], ["--no-isolation"]):
        done = program.run("--id", "n=1..5", "-j", "2", *isolation)
        assert done.returncode == 1
        assert "the task cannot be loaded" in done.stderr
        assert "LookupError: no such catalogue" in done.stderr


def test_the_run_ends_when_the_process_that_gives_out_targets_is_killed(program):
    program.write(
        """
class KillsAbove(CmdLineTask):
    _DefaultName = "above"
    def runDataRef(self, ref):
        if ref.dataId["n"] == 3:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
KillsAbove.parseAndRun()
"""
    )
    done = program.run("--id", "n=1..6", "-j", "1", "--no-isolation", "--timeout", "1e6")
    assert done.returncode == 4, done.stderr
    assert "dataId={'n': 3}: the target process died" in done.stderr
    assert [record["task_id"] for record in program.records() if record["status"] == "finished"] == [1, 2]


def test_processes_that_cannot_measure_run_their_targets_and_the_run_says_so(program):
    program.write(
        MIXED
        + """
from runmem.task_runner import target_process
def refuses(*_, **__):
    raise OSError("no room")
target_process.WorkerRun = refuses
Mixed.parseAndRun()
"""
    )
    done = program.run("--id", "what=quick1^quick2", "-j", "2", "--no-isolation")  # over before the program looks
    assert done.returncode == 0, done.stderr
    assert program.records() == []
    assert len(provenance(program)["lost"]) == 2
    assert all("the memory of its targets was not measured: no room" in line for line in provenance(program)["lost"])


def test_results_of_any_size_arrive(program):
    program.write("""
        class Large(CmdLineTask):
            _DefaultName = "large"
            def runDataRef(self, ref):
                return bytes([ref.dataId["n"]]) * (ref.dataId["n"] * 2**20)
        found = Large.parseAndRun(doReturnResults=True, args=sys.argv[1:] + ["--noExit"]).resultList
        print([(len(r.result) >> 20, set(r.result)) for r in found])
    """)
    done = program.run("--id", "n=1^20^2^3", "-j", "2", "--no-isolation")
    assert done.stdout == "[(1, {1}), (20, {20}), (2, {2}), (3, {3})]\n", done.stderr


def test_a_result_that_the_program_cannot_unpickle_is_its_error(program):
    program.write("""
        class Once:
            def __reduce__(self):
                return fails, ()
        def fails():
            raise LookupError("not here")
        class Returns(CmdLineTask):
            _DefaultName = "returns"
            def runDataRef(self, ref):
                return Once()
        Returns.parseAndRun(doReturnResults=True)
    """)
    done = program.run("--id", "n=1^2", "-j", "2", "--no-isolation")
    assert done.returncode == 1
    assert "LookupError: not here" in done.stderr
