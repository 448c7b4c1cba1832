"""The memory on GPUs, with NVIDIA's own Python library; below it a library in C that has one or two GPUs.

No machine of the tests has had a GPU: the last test is skipped where there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runmem.formats.mprof import Trace, read_trace
from runmem.node.gpu_memory import GpuMemory
from runmem.node.launch import ensure_sampler
from runmem.node.members import join
from runmem.node.sampled_peaks import PeakReader, file_of
from runmem.units import MIB

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed (extra gpu)")

LIBRARY = """
#include <stdlib.h>
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int pid; unsigned long long used; unsigned int instance, compute; } Process;
static unsigned long long number(const char *name) { const char *t = getenv(name); return t ? strtoull(t, 0, 10) : 0; }
int nvmlInitWithFlags(unsigned int flags) { return (int) number("FAKE_INIT"); }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **handle) {
    *handle = (void *) (unsigned long) (i + 1);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    memory->total = 8ull << 30;
    memory->used = ((unsigned long) handle) << 30;
    memory->free = memory->total - memory->used;
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned int *count, Process *found) {
    unsigned int room = *count, n = (unsigned long) handle == 1 ? 3 : number("FAKE_SECOND") ? 1 : 0;
    *count = n;
    if (n == 0) return 0;
    if (room < n) return 7;  /* insufficient size */
    found[0].pid = number("FAKE_PID"); found[0].used = 300ull << 20;
    if (n > 1) { found[1].pid = number("FAKE_CHILD"); found[1].used = 200ull << 20; }
    if (n > 2) { found[2].pid = 1; found[2].used = ~0ull; }  /* not available */
    return 0;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a library with the functions of NVML."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("needs a C compiler")
    made = tmp_path_factory.mktemp("nvml")
    (made / "nvml.c").write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made / "libnvidia-ml.so.1", made / "nvml.c"], check=True)
    return made


def trace_of(spool: Path) -> Trace | None:
    path = spool / "node7.dat"
    return read_trace(path) if path.exists() else None


def test_a_worker_on_gpus_is_in_the_trace_and_in_its_peaks(
    folder: Path, start: Callable, spool: Path, eventually: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = start(), start()
    child = int(worker.do("import subprocess; child = subprocess.Popen(['sleep', '600'], stdout=-3); said = child.pid"))
    for name, value in {
        "LD_LIBRARY_PATH": folder,
        "FAKE_PID": worker.pid,
        "FAKE_CHILD": child,
        "FAKE_SECOND": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    reader = PeakReader(file_of(spool, worker.pid))
    unused = PeakReader(file_of(spool, other.pid))
    join(spool, worker.pid, "node7.dat", "worker-7")
    join(spool, other.pid, "node7.dat", "worker-8")
    join(spool, os.getpid(), "mprofile_20261120123456.dat", descendants=False)
    ensure_sampler(spool, 0.02)

    def has_all() -> bool:
        trace = trace_of(spool)
        return trace is not None and any(size == 800 * MIB for _, size in trace.gpus.get("worker-7", ()))

    eventually(has_all)
    worker.do("child.kill(); child.wait()")
    trace = trace_of(spool)
    assert trace is not None
    assert trace.gpus.keys() == {"gpu0", "gpu1", "worker-7"}  # not the worker that uses none
    assert {size for _, size in trace.gpus["gpu1"]} == {2048 * MIB}
    assert trace.skipped == 0
    peak = reader.cut()
    assert peak is not None
    assert peak.gpu_bytes == 800 * MIB  # on both devices, with its child
    assert unused.cut() is None
    assert read_trace(spool / "mprofile_20261120123456.dat").gpus == {}


def read_in_process(folder: Path | None, code: str, **more: str) -> str:
    """Run code in a process that finds the library, since one that has loaded it keeps it."""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parents[2] / "src")])
    env = {**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": str(folder or ""), **more}
    head = "import pynvml\nfrom runmem.node.gpu_memory import GpuMemory\n"
    done = subprocess.run([sys.executable, "-c", head + code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_memory_that_the_driver_does_not_know_is_none_and_not_zero(folder: Path) -> None:
    code = "gpus = GpuMemory(pynvml); one = gpus.read(); print(one.processes, one.devices, gpus.read())"
    found = read_in_process(folder, code, FAKE_PID="5", FAKE_CHILD="6")
    processes = {5: 300 * MIB, 6: 200 * MIB, 1: None}
    assert found == f"{processes} { ({'gpu0': 1024 * MIB, 'gpu1': 2048 * MIB}) } None"  # too early to read again


@pytest.mark.parametrize(
    ("has_library", "status", "message"),
    [(False, "0", ""), (True, "9", "the memory of GPUs cannot be read: Driver Not Loaded")],
)
def test_without_a_driver_there_is_no_gpu_and_its_errors_are_named(
    folder: Path, has_library: bool, status: str, message: str
) -> None:
    if not has_library and shutil.which("nvidia-smi"):
        pytest.skip("this machine has NVIDIA's driver")
    code = "try:\n    GpuMemory(pynvml)\nexcept OSError as error:\n    print(f'<{error}>')"
    assert read_in_process(folder if has_library else None, code, FAKE_INIT=status) == f"<{message}>"


def test_a_real_gpu_is_read() -> None:
    try:
        gpus = GpuMemory(pynvml)
    except OSError as error:
        pytest.skip(f"needs an NVIDIA GPU with its driver: {str(error) or 'its library is not installed'}")
    reading = gpus.read()
    if reading is None:
        pytest.skip("NVIDIA's driver is here, but no GPU")
    assert all(name.startswith("gpu") and used >= 0 for name, used in reading.devices.items())
    assert all(pid > 0 and (size is None or size >= 0) for pid, size in reading.processes.items())
