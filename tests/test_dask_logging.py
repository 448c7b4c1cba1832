"""Logging with Dask, tested in new processes because logging is set up once per process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def said(program: str) -> list[str]:
    """Run a program and return the lines of its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_import_of_dask_leaves_the_logging_of_a_program_as_it_was():
    told = said("""
        import logging, sys
        from runmem.dask_logging import import_dask
        if sys.argv[1:]:
            logging.basicConfig()
        logging.getLogger("tornado").setLevel(logging.INFO)
        logging.getLogger("distributed").setLevel(logging.DEBUG)
        import_dask()
        assert "distributed" in sys.modules
        for name in ("distributed", "distributed.client", "tornado", "tornado.application", "bokeh", "asyncio"):
            logger = logging.getLogger(name)
            print(name, logger.level, logger.propagate, [type(handler).__name__ for handler in logger.handlers])
        print(logging.getLogger().handlers, logging.getLogger().level)
    """)
    assert told == [
        "distributed 10 False ['StreamHandler']",
        "distributed.client 30 True []",
        "tornado 20 False ['_ProgramRecords']",
        "tornado.application 0 True []",
        "bokeh 0 False ['_ProgramRecords']",
        "asyncio 0 False ['_ProgramRecords']",
        "[] 30",
    ]


def test_the_handler_of_a_dask_that_the_program_imported_first_has_the_level_of_the_run() -> None:
    """Else the run prints what its scheduler and workers do, thirty lines for the shortest program."""
    printed = said("""
        import logging, sys
        import distributed
        own = logging.StreamHandler(sys.stdout)
        logger = logging.getLogger("distributed")
        logger.handlers[0].setStream(sys.stdout)
        logger.addHandler(own)
        from runmem.dask_logging import import_dask, set_dask_log_level
        import_dask()
        set_dask_log_level(logging.CRITICAL)
        logging.getLogger("distributed.scheduler").info("State start")
        set_dask_log_level(logging.WARNING)
        logging.getLogger("distributed.nanny").warning("Worker process died")
    """)
    assert printed[:2] == ["State start", printed[1]]
    assert printed[1].endswith("distributed.nanny - WARNING - Worker process died")
    assert printed[2:] == ["Worker process died"]


def test_a_program_that_imported_dask_itself_is_kept_apart_from_it_too():
    told = said("""
        import logging, sys
        logging.basicConfig(stream=sys.stdout)
        import distributed
        from runmem.dask_logging import import_dask
        import_dask()
        logging.getLogger("distributed.worker").error("of Dask")
        logging.getLogger("study").error("of the program")
        print([type(handler).__name__ for handler in logging.getLogger("distributed").handlers])
    """)
    assert told == ["ERROR:study:of the program", "['StreamHandler']"]


def test_whose_record_it_is_is_told_by_the_nearest_code_that_is_nobody_elses_tool():
    told = said("""
        import asyncio, logging, sys, types, warnings
        logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
        logging.captureWarnings(True)
        from runmem.dask_logging import import_dask
        import_dask()

        def of(name):
            module = types.ModuleType(name)
            exec(compile(CODE, "/nowhere/" + name + ".py", "exec"), module.__dict__)
            return module

        CODE = "\\n".join([
            "import asyncio, logging, warnings",
            "def speak(text):",
            "    warnings.warn(text)",
            "    async def run():",
            "        asyncio.get_running_loop().call_exception_handler({'message': text})",
            "    asyncio.run(run())",
            "def call(function, *args):",
            "    function(*args)",
        ])
        study, dask = of("study"), of("distributed.scheduler")
        study.speak("the program's")
        dask.speak("Dask's")
        dask.call(study.speak, "called by Dask")
        study.call(dask.speak, "called by the program")
    """)
    told = [line for line in told if line.startswith(("py.warnings", "asyncio"))]
    assert told == [
        "py.warnings /nowhere/study.py:3: UserWarning: the program's",
        "asyncio the program's",
        "py.warnings /nowhere/study.py:3: UserWarning: called by Dask",
        "asyncio called by Dask",
    ]


def test_errors_of_dasks_libraries_still_go_to_standard_error():
    program = """
        import logging, sys, types
        logging.basicConfig(stream=sys.stdout)
        from runmem.dask_logging import import_dask
        import_dask()
        dask = types.ModuleType("distributed.core")
        code = "import logging\\ndef speak(level): logging.getLogger('tornado').log(level, 'level %d', level)"
        exec(code, vars(dask))
        dask.speak(logging.WARNING)
        dask.speak(logging.ERROR)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "level 40\n")


def test_loggers_that_a_program_may_not_know_are_not_made_before_dask_comes():
    """`logging.config.dictConfig` disables existing loggers."""
    told = said("""
        import logging
        from runmem.dask_logging import isolate_dask_log
        isolate_dask_log()
        print(sorted(logging.getLogger().manager.loggerDict))
    """)
    assert told == ["['dask', 'distributed']"]
