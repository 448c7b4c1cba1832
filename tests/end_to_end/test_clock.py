"""The clock is set while a run goes on: no time in what the run leaves goes back or lies outside of the run."""

from __future__ import annotations

import pytest

from runmem.formats.mprof import read_trace
from runmem.store.run import read_run

PROGRAM = """
import sys, time
from runmem import task, wait_on

jump = float(sys.argv[1])

def set_clock():
    time.time = lambda: time.clock_gettime(time.CLOCK_REALTIME) + jump

@task(returns=1)
def before(number):
    return number

@task(returns=1)
def across(number):
    set_clock()
    time.sleep(0.2)
    return number

@task(returns=1)
def after(number):
    time.sleep(0.01)
    return number

wait_on([before(number) for number in range(20)])
set_clock()
print(sum(wait_on([across(number) for number in range(4)])))
print(sum(wait_on([after(number) for number in range(40)])))
"""


@pytest.mark.parametrize("jump", ["-60", "-3600", "86400"])
def test_times_go_on_evenly(tmp_path, runmem, write, jump):
    write(tmp_path, "app.py", PROGRAM)
    # In this process: Dask's event loop on its own stands still until a clock that was set back has caught up.
    ran = runmem(tmp_path, "--python_memory_profile", "--sequential", "app.py", jump)
    assert (ran.code, ran.out) == (0, "6\n780\n"), ran.err
    run = read_run(ran.runs[0])
    began_s, ended_s = run.provenance["started_s"], run.provenance["ended_s"]
    assert 0 < ended_s - began_s < 60
    assert len(run.records) == 64
    for record in run.records:
        assert record.elapsed_s is not None, record
        assert 0 <= record.elapsed_s < 10, record
        assert began_s <= record.start_s <= record.end_s <= ended_s, record
    for path in run.traces:
        times = read_trace(path).times_s
        assert all(began_s - 1 <= time_s <= ended_s + 1 for time_s in times)
        assert list(times) == sorted(times)
    report = runmem(tmp_path, "report", "--tasks")
    assert report.code == 0, report.err
    assert " -" not in report.out.replace(" - ", "")  # no time below zero
