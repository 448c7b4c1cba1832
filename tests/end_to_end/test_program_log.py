"""The program's log is the program's: nothing of Dask, all that its tasks log, however it has set logging up."""

from __future__ import annotations

import re
import subprocess
import sys

import distributed
import pytest

ON_STANDARD_OUTPUT = """
import logging, sys
from runmem import task, wait_on
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(message)s")

@task(returns=1)
def double(x):
    return 2 * x

logging.info("begin")
print(wait_on([double(x) for x in range(4)]))
logging.info("end")
"""
TO_A_FILE = """
import logging
logging.basicConfig(filename="app.log", level=logging.DEBUG, format="%(name)s %(levelname)s %(message)s")
logging.captureWarnings(True)
import warnings
from runmem import task, wait_on

@task(returns=1)
def double(x):
    return 2 * x

logging.debug("begin")
print(wait_on([double(x) for x in range(4)]))
warnings.warn("of the program")
logging.getLogger("app").debug("end")
"""
FROM_A_DICTIONARY = """
import logging, logging.config, sys
logging.config.dictConfig({
    "version": 1,
    "formatters": {"plain": {"format": "%(name)s %(levelname)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain"}},
    "root": {"level": "DEBUG", "handlers": ["out"]},
})
import asyncio, warnings
from runmem import task, wait_on

@task(returns=1)
def double(x):
    return 2 * x

async def unhandled():
    asyncio.get_running_loop().call_exception_handler({"message": "of the program's own loop"})

logging.captureWarnings(True)
print(wait_on([double(x) for x in range(4)]))
warnings.warn("of the program")
asyncio.run(unhandled())
"""


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (ON_STANDARD_OUTPUT, []), (TO_A_FILE, []), (TO_A_FILE, ["--python_memory_profile"]),
        (FROM_A_DICTIONARY, ["--python_memory_profile"]),
    ],
    ids=["output", "file", "file measured", "dictionary measured"],
)  # fmt: skip
def test_nothing_of_dask_stands_in_it(tmp_path, runmem, write, environment, program, options):
    (tmp_path / "plain").mkdir()
    for folder in (tmp_path, tmp_path / "plain"):
        write(folder, "app.py", program)
    plain = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path / "plain",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    ran = runmem(tmp_path, "--workers=2", *options, "app.py")
    assert (ran.code, ran.out) == (plain.returncode, plain.stdout.replace("/plain/", "/")), ran.err
    assert "distributed" not in ran.err
    if program is TO_A_FILE:
        expected = (tmp_path / "plain" / "app.log").read_text().replace("/plain/", "/")
        assert (tmp_path / "app.log").read_text() == expected


ASKS = """
import logging, sys
from runmem import task, wait_on
import runmem

@task(returns=1)
def double(x):
    return 2 * x

class Named(logging.Handler):
    def emit(self, record):
        names.add(record.name.partition(".")[0])

names = set()

def ask():
    if sys.argv[1] == "propagate":
        logging.basicConfig(handlers=[Named()], level=logging.INFO)
        logging.getLogger("distributed").propagate = True
    elif sys.argv[1] == "handler":
        logging.getLogger("distributed").addHandler(Named())
    elif sys.argv[1] == "stream":
        logging.getLogger("distributed").addHandler(logging.FileHandler("dask.log"))
    elif sys.argv[1] == "nothing":
        logging.basicConfig(handlers=[Named()], level=logging.DEBUG)

if sys.argv[2] == "session":
    with runmem.session(workers=1):
        ask()
        wait_on(double(1))
else:
    ask()
    wait_on(double(1))
print(names)
"""


@pytest.mark.parametrize(
    ("how", "asked", "names"),
    [
        ("run", "propagate", {"distributed"}), ("run", "handler", {"distributed"}), ("run", "stream", set()),
        ("run", "nothing", set()), ("session", "propagate", {"distributed"}), ("session", "stream", set()),
    ],
)  # fmt: skip
def test_a_program_that_asks_for_what_dask_logs_gets_it(tmp_path, runmem, write, environment, how, asked, names):
    write(tmp_path, "app.py", ASKS)
    if how == "session":
        command = [sys.executable, "app.py", asked, how]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
        out, err = done.stdout, done.stderr
    else:
        ran = runmem(tmp_path, "--workers=1", "app.py", asked, how)
        out, err = ran.out, ran.err
    assert out == f"{names}\n", err
    assert "distributed" not in err
    if asked == "stream":
        told = (tmp_path / "dask.log").read_text()
        assert "Register worker" in told  # when the cluster began
        assert "Scheduler closing" in told


IN_TASKS = """
import asyncio, logging, sys, threading, warnings
import helper
from runmem import task, wait_on
log = logging.getLogger("study.app")

@task(returns=1)
def step(x):
    log.info("computes %d", x, extra={"unit": "mm"})
    log.debug("is not shown")
    helper.help(x)
    thread = threading.Thread(target=log.warning, args=("of a thread, %d%%", x), name="its thread")
    thread.start()
    thread.join()
    try:
        {}[x]
    except KeyError:
        log.exception("cannot look %d up", x)
    warnings.warn(f"careful with {x}")
    async def unhandled():
        asyncio.get_running_loop().call_exception_handler({"message": f"in a loop, {x}"})
    asyncio.run(unhandled())
    return x

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.captureWarnings(True)
    logging.getLogger("helper.loud").setLevel(logging.DEBUG)
    logging.getLogger("helper.quiet").setLevel(logging.ERROR)
    log.info("begin")
    for x in range(2):
        print(wait_on(step(x)), flush=True)
    log.info("end")
"""
HELPER = """
import logging

def help(x):
    for name in ("loud", "quiet"):
        for level in (logging.DEBUG, logging.INFO, logging.ERROR):
            logging.getLogger(f"helper.{name}").log(level, "helps %d", x)
"""


@pytest.fixture(scope="module")
def in_tasks(module_folder, runmem, write, environment):
    write(module_folder, "app.py", IN_TASKS)
    write(module_folder, "helper.py", HELPER)
    command = [sys.executable, "app.py"]
    plain = subprocess.run(command, cwd=module_folder, env=environment(), capture_output=True, text=True, timeout=60)
    return plain, runmem(module_folder, "--workers=1", "app.py")


def test_what_tasks_log_stands_in_the_programs_log_in_its_place(in_tasks):
    plain, ran = in_tasks
    assert "ERROR study.app cannot look 1 up\nTraceback" in plain.stdout
    assert "ERROR asyncio in a loop, 1\n" in plain.stdout
    assert ran.out == plain.stdout, ran.err
    assert [line for line in ran.err.splitlines() if not line.startswith("runmem: ")] == []


@pytest.mark.parametrize("set_up", ["", "logging.getLogger('study').setLevel(logging.INFO)"])
def test_where_nothing_is_set_up_warnings_go_to_standard_error(tmp_path, runmem, write, environment, set_up):
    main = f'if __name__ == "__main__":\n    {set_up or "pass"}\n    wait_on([step(0)])\n'
    write(tmp_path, "app.py", IN_TASKS.partition("if __name__")[0] + main)
    write(tmp_path, "helper.py", HELPER)
    command = [sys.executable, "app.py"]
    plain = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    own = [line for line in ran.err.splitlines() if not line.startswith("runmem: ")]
    assert sorted(own) == sorted(plain.stderr.splitlines())  # a warning that is not logged goes its own way
    assert "of a thread, 0%" in own


TELLS = """
import logging, os, sys
from runmem import task, wait_on

@task(returns=1)
def measured_step(x):
    logging.getLogger("study").warning("in %s", x, extra={"unit": "mm"})
    return os.getpid()

class Kept(logging.Handler):
    def emit(self, record):
        kept.append(record)

kept = []
logging.getLogger("study").addHandler(Kept())
logging.getLogger("study").propagate = False
pids = wait_on([measured_step(x) for x in range(3)])
print(sorted(record.getMessage() for record in kept), [type(record).__name__ for record in kept][:1])
print(sorted(record.task_id for record in kept), {record.task for record in kept}, {record.unit for record in kept})
print({record.process for record in kept} == set(pids), {record.funcName for record in kept}, kept[0].filename)
print({record.node for record in kept} == {os.uname().nodename}, 0 < kept[0].relativeCreated < 60000)
print(len(kept[0].threadName) > 0, {record.levelname for record in kept}, kept[0].name)
"""


def test_a_record_says_which_task_logged_it_and_where(tmp_path, runmem, write):
    write(tmp_path, "app.py", TELLS)
    ran = runmem(tmp_path, "--workers=2", "app.py")
    assert ran.out.splitlines() == [
        "['in 0', 'in 1', 'in 2'] ['LogRecord']",
        "[1, 2, 3] {'measured_step'} {'mm'}",
        "True {'measured_step'} app.py",
        "True True",
        "True {'WARNING'} study",
    ], ran.err


OWN_HANDLERS = """
import logging, sys
import helper
from runmem import task, wait_on

@task(returns=1)
def step(x):
    helper.log.warning("helps %d", x)
    helper.other.warning("is elsewhere, %d", x)
    return x

logging.basicConfig(filename="app.log", level=logging.INFO, format="%(message)s")
print(wait_on(step(1)))
"""
HELPER_WITH_HANDLER = """
import logging, sys
logging.basicConfig(filename="helper.log", filemode="w", level=logging.DEBUG, format="helper %(message)s")
log = logging.getLogger("helper.log")
handler = logging.StreamHandler(sys.stdout)
log.addHandler(handler)
other = logging.getLogger("helper.other")
"""


def test_a_module_with_handlers_of_its_own_tells_everything_once(tmp_path, runmem, write, environment):
    """The first to configure the root logger is the module, also in the program; the worker must not do so again."""
    write(tmp_path, "app.py", OWN_HANDLERS)
    write(tmp_path, "helper.py", HELPER_WITH_HANDLER)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert sorted(ran.out.splitlines()) == ["1", "helps 1"], ran.err
    told = (tmp_path / "helper.log").read_text().splitlines()
    assert [line for line in told if "helps" in line or "elsewhere" in line] == [
        "helper helps 1", "helper is elsewhere, 1",
    ]  # fmt: skip
    assert not (tmp_path / "app.log").exists()


LEVELS = """
import logging, sys
from runmem import task, wait_on

@task(returns=1)
def step(x):
    for name in ("", "study"):
        for level in (logging.DEBUG, logging.WARNING, 35):
            logging.getLogger(name).log(level, "%s", x)

logging.addLevelName(35, "IMPORTANT")
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
wait_on(step("as they were"))
logging.getLogger().setLevel(logging.DEBUG)
wait_on(step("all"))
logging.getLogger("study").setLevel(logging.ERROR)
wait_on(step("less of the study"))
logging.disable(logging.WARNING)
wait_on(step("disabled"))
logging.disable(logging.NOTSET)
logging.getLogger("study").setLevel(logging.NOTSET)
logging.getLogger().setLevel(logging.WARNING)
wait_on(step("as before"))
logging.getLogger("study").disabled = True
wait_on(step("without the study"))
logging.getLogger().handlers[0].addFilter(lambda record: record.levelno == 35)
wait_on(step("filtered"))
"""


def test_levels_hold_in_tasks_from_the_call_on(tmp_path, runmem, write, environment):
    write(tmp_path, "app.py", LEVELS)
    command = [sys.executable, "app.py"]
    plain = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert "study IMPORTANT all" in plain.stdout
    assert ran.out == plain.stdout, ran.err


SETS_UP_ITSELF = """
import logging
from runmem import task, wait_on

@task(returns=1)
def step(x):
    logging.basicConfig(level=logging.INFO, format="of the task: %(message)s")
    logging.info("info %d", x)
    return x

wait_on(step(1))
"""


def test_a_task_that_sets_up_logging_for_a_program_that_has_not_does_so(tmp_path, runmem, write):
    write(tmp_path, "app.py", SETS_UP_ITSELF)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert "of the task: info 1" in ran.err.splitlines()


DIES = """
import logging, os, signal
from runmem import TaskKilledError, task, wait_on
logging.basicConfig(filename="app.log", level=logging.INFO, format="%(task)s: %(message)s")

@task(returns=1)
def dies(x):
    logging.info("the last words")
    os.kill(os.getpid(), signal.SIGKILL)

try:
    wait_on(dies(1))
except TaskKilledError as error:
    print("killed", "the last words" in open("app.log").read())
"""


def test_the_last_words_of_a_killed_task_arrive(tmp_path, runmem, write):
    write(tmp_path, "app.py", DIES)
    ran = runmem(tmp_path, "--workers=1", "--python_memory_profile", "app.py")
    assert ran.out == "killed True\n", ran.err
    assert (tmp_path / "app.log").read_text() == "dies: the last words\n" * 4  # Dask tries a call so often


MUCH = """
import logging
from runmem import task, wait_on
logging.basicConfig(filename="app.log", level=logging.INFO, format="%(message)s")

@task(returns=1)
def talks(count):
    for number in range(count):
        logging.info("line %d %s", number, "x" * 100)

for number in range(3):
    wait_on(talks(1))
talks(20_000)
"""


def test_much_that_is_logged_arrives_whole_and_in_order_also_if_nobody_waits(tmp_path, runmem, write):
    write(tmp_path, "app.py", MUCH)
    ran = runmem(tmp_path, "--workers=1", "--spool_size=100KiB", "app.py")
    assert ran.code == 0, ran.err
    numbers = [int(line.split()[1]) for line in (tmp_path / "app.log").read_text().splitlines()]
    assert numbers == [0, 0, 0, *range(20_000)]


RAISES = """
import logging, sys
from runmem import task, wait_on

class Careless(logging.Handler):
    def emit(self, record):
        raise RuntimeError("of a handler")

@task(returns=1)
def step(x):
    logging.warning("%d arguments too few: %d", 1)
    logging.warning("good")
    return x

logging.basicConfig(handlers=[logging.StreamHandler(sys.stdout), Careless()], format="%(message)s")
print(wait_on(step(7)))
"""


def test_neither_a_wrong_message_nor_a_handler_that_raises_costs_a_result(tmp_path, runmem, write):
    write(tmp_path, "app.py", RAISES)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert (ran.code, ran.out.splitlines()) == (0, ["good", "7"]), ran.err
    assert "TypeError: not enough arguments for format string" in ran.err


WAITS_IN_A_HANDLER = """
import logging
from runmem import task, wait_on

@task(returns=1)
def step(x):
    logging.getLogger("study").warning("%s", x)
    return x

class Counts(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "ask":
            print("asked", wait_on(step("from a handler")))

logging.getLogger().addHandler(Counts())
logging.getLogger("study").warning("ask")
print(wait_on(step("end")))
"""


def test_a_handler_may_wait_for_tasks_itself(tmp_path, runmem, write):
    write(tmp_path, "app.py", WAITS_IN_A_HANDLER)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert (ran.code, ran.out) == (0, "asked from a handler\nend\n"), ran.err


@pytest.fixture
def scheduler():
    """Return the address of a Dask scheduler with two workers, processes that are nobody's."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


def test_tasks_on_workers_of_another_cluster_log_here_too_and_leave_them_as_they_were(
    tmp_path, runmem, write, scheduler
):
    write(tmp_path, "app.py", IN_TASKS)
    write(tmp_path, "helper.py", HELPER)
    with distributed.Client(scheduler, set_as_default=False) as client:
        before = client.run(_logging_here)
        ran = runmem(tmp_path, f"--scheduler={scheduler}", "app.py")
        assert client.run(_logging_here) == before
    assert ran.code == 0, ran.err
    assert re.findall(r"INFO study.app (.*)", ran.out) == ["begin", "computes 0", "computes 1", "end"]
    assert "ERROR study.app cannot look 1 up\nTraceback" in ran.out
    assert "distributed" not in ran.out


def _logging_here():
    import logging

    root = logging.getLogger()
    names = {name for name, logger in root.manager.loggerDict.items() if getattr(logger, "level", 0)}
    return root.level, len(root.handlers), root.manager.disable, type(logging.lastResort).__name__, sorted(names)


SESSION = """
import logging, sys, runmem
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(message)s")

@runmem.task(returns=1)
def step(x):
    logging.info("computes %d", x)
    return x

with runmem.session(workers=1):
    print(runmem.wait_on(step(1)), flush=True)
    step(2)
logging.info("end")
"""


def test_a_session_brings_what_its_tasks_log(tmp_path, write, environment):
    write(tmp_path, "app.py", SESSION)
    command = [sys.executable, "app.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["root computes 1", "1", "root computes 2", "root end"], done.stderr


SET_UP_LATE = """
import logging, logging.config, os, signal, time
from runmem import TaskKilledError, task, wait_on

@task(returns=1)
def step(x):
    logging.getLogger("study").info("computes %d", x)
    return x

@task(returns=1)
def dies(x):
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)  # another thread may be the one that is interrupted

wait_on(step(1))
logging.config.dictConfig({
    "version": 1,
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["out"]},
})
logging.getLogger("begins").info("is set up")
try:
    wait_on(dies(3))
except TaskKilledError as error:
    print("killed by signal 11" in str(error), flush=True)
wait_on(step(2))
"""


def test_a_program_that_sets_logging_up_after_its_first_call_loses_nothing(tmp_path, runmem, write):
    write(tmp_path, "app.py", SET_UP_LATE)
    ran = runmem(tmp_path, "--workers=1", "--python_memory_profile", "app.py")
    assert (ran.code, ran.out) == (0, "is set up\nTrue\ncomputes 2\n"), ran.err
