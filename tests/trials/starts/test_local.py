from __future__ import annotations

import os
import platform
import signal
import sys
import threading
from pathlib import Path

import pytest

from runmem.trials.methods import METHODS, Method
from runmem.trials.outcome import Site
from runmem.trials.starts.contract import StartError
from runmem.trials.starts.local import Local
from runmem.units import MIB

EXIT = {"x86_64": 60, "aarch64": 93}.get(platform.machine())  # the system call that ends one thread


class Watcher(Method):
    """Notes whether the command had begun when it was asked to watch."""

    name = "watcher"
    columns = ()

    def __init__(self, mark):
        self.mark, self.begun, self.pid = mark, None, None

    def watch(self, pid):
        self.begun, self.pid = self.mark.exists(), pid


def test_methods_watch_before_the_first_instruction(site, tmp_path):
    watcher = Watcher(tmp_path / "mark")
    outcome = Local().run(["touch", str(watcher.mark)], [watcher], site)
    assert watcher.begun is False
    assert watcher.mark.exists()
    assert outcome.pid == watcher.pid


@pytest.mark.parametrize("names", [[], ["hwm"], ["time"], ["hwm", "time"]])
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_the_exit_code_is_the_commands(site, names, script, code):
    methods = [METHODS[name]() for name in names]
    for method in methods:
        method.prepare(site)
    assert Local().run(["sh", "-c", script], methods, site).exit_code == code


def test_arguments_environment_and_output_are_the_commands_own(site, monkeypatch):
    monkeypatch.setenv("RUNMEM_TRIAL_TEST", "a b")
    script = 'printf "%s|" "$@" "$RUNMEM_TRIAL_TEST"; echo bad >&2; cat'
    Local().run(["sh", "-c", script, "name", "", "two words", "$x;"], [METHODS["hwm"]()], site)
    assert site.stdout.read_text() == "|two words|$x;|a b|"
    assert site.stderr.read_text() == "bad\n"


def test_only_the_command_and_what_it_started_are_its_processes(site):
    methods = [METHODS["time"](), METHODS["hwm"]()]
    for method in methods:
        method.prepare(site)
    outcome = Local().run(["sh", "-c", "sleep 0.01; true | cat; exit 0"], methods, site)
    assert "time" not in {process.name for process in outcome.processes}
    assert {"sh", "sleep", "cat"} <= {process.name for process in outcome.processes}
    assert outcome.processes[0].pid == outcome.pid or outcome.pid in {process.pid for process in outcome.processes}


def test_threads_signals_stops_and_failed_starts_pass_under_tracing(site):
    script = (
        "import os, signal, subprocess, threading, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n"
        "threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(20)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "child = subprocess.Popen(['sleep', '30'])\n"
        "child.send_signal(signal.SIGSTOP)\n"
        "assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])\n"
        "child.send_signal(signal.SIGCONT); child.kill(); assert child.wait() == -9\n"
        "try: subprocess.Popen(['/nonexistent'])\n"
        "except FileNotFoundError: seen.append(2)\n"
        "assert seen == [1, 2]\n"
    )
    outcome = Local().run([sys.executable, "-c", script], [METHODS["hwm"]()], site)
    assert outcome.exit_code == 0, site.stderr.read_text()
    assert {process.name for process in outcome.processes if process.peak_bytes} >= {"sleep"}


@pytest.mark.skipif(EXIT is None, reason="the number of the system call is not known on this processor")
def test_the_mark_of_a_process_whose_first_thread_ends_early_is_read_at_its_last(site):
    script = (
        "import ctypes, os, threading, time\n"
        "def grow():\n"
        "    time.sleep(0.2)\n"
        "    held = b'1' * (80 << 20)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=grow).start()\n"
        f"ctypes.CDLL(None).syscall({EXIT}, 0)\n"
    )
    outcome = Local().run([sys.executable, "-c", script], [METHODS["hwm"]()], site)
    assert max(process.peak_bytes for process in outcome.processes) > 80 * MIB


def test_a_method_that_fails_to_watch_is_a_reason_and_the_command_runs(site, tmp_path):
    class Broken(Watcher):
        def watch(self, pid):
            raise OSError("no such meter")

    outcome = Local().run(["true"], [Broken(tmp_path)], site)
    assert outcome.exit_code == 0
    assert outcome.reasons == {"watcher": "no such meter"}


def test_the_command_keeps_to_its_processors(tmp_path):
    cpu = sorted(os.sched_getaffinity(0))[0]
    site = Site(tmp_path, cpus=(cpu,))
    Local().run([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], [], site)
    assert site.stdout.read_text().strip() == f"{{{cpu}}}"


def test_a_group_that_cannot_be_joined_is_an_error_with_its_path(site, tmp_path):
    class Group(Watcher):
        def group(self):
            return self.mark / "cgroup.procs"

    with pytest.raises(StartError, match="did not start"):
        Local().run(["true"], [Group(tmp_path / "none")], site)


def has_ended(pid):
    """Return True if a process is gone, or only its number is left for its parent to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_an_interruption_ends_the_whole_process_group(site, tmp_path, eventually):
    pids = tmp_path / "pids"
    command = ["sh", "-c", f"sleep 300 & echo $$ $! > {pids}.part; mv {pids}.part {pids}; wait"]

    def interrupt():
        try:
            eventually(pids.exists)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Local().run(command, [METHODS["hwm"]()], site)
    thread.join()
    for pid in map(int, pids.read_text().split()):
        eventually(lambda pid=pid: has_ended(pid))
