"""A program of known memory: it touches a given number of MiB in a given pattern, and reports its true peak.

    python -m runmem.trials.control PATTERN [--size_mib 64] [--children 3] [--hold_s 0.4] [--spike_s 0.005]
        [--truth FILE] [--folder FOLDER]

Patterns: `one` process; children in `parallel`; children in `turn`; a `spike`; `fork`, pages shared with forked
children; page `cache` by reading a file; `freed` before the end. A trial starts it by path, without the package, so
that it is as small as Python can be: it imports only a few modules of the standard library.

Assumptions
-----------
The size of the interpreter at the start is read from ``/proc/self/status``. The touched memory is known to the page: it
is a private anonymous map, each page of which is written once.

Limitations
-----------
Pages that the interpreter faults in later (about 100 KiB) are missing. File-backed pages of the tree (interpreter and
libraries) count once, as those of the process with most of them.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

__all__ = ["PATTERNS", "main"]

MIB = 1024**2
PATTERNS = ("one", "parallel", "turn", "spike", "fork", "cache", "freed")
_PAGE = mmap.PAGESIZE
_OPTIONS = {"--size_mib": 64.0, "--children": 3.0, "--hold_s": 0.4, "--spike_s": 0.005}


def resident() -> tuple[int, int]:
    """Return the anonymous and the file-backed resident bytes of this process, the latter with shared memory."""
    found = {}
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Rss"):
                name, size = line.split()[:2]
                found[name] = int(size) * 1024
    return found[b"RssAnon:"], found[b"RssFile:"] + found[b"RssShmem:"]


def touched(size: int) -> mmap.mmap:
    """Return a private anonymous map of `size` bytes with every page written."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[::_PAGE] = b"\1" * (size // _PAGE)
    return memory


class Leaf:
    """A child process that touches `size` bytes, reports its size before that, and keeps them until `end`."""

    def __init__(self, size: int) -> None:
        sizes, report = os.pipe()
        waits, self._go = os.pipe()
        os.set_inheritable(report, True)
        os.set_inheritable(waits, True)
        command = [sys.executable, "-I", "-S", os.path.abspath(__file__), "leaf", str(size), str(report), str(waits)]
        self._pid = os.posix_spawn(sys.executable, command, os.environ)
        os.close(report)
        os.close(waits)
        self.anonymous, self.file = _two_numbers(sizes)

    def end(self) -> None:
        """End the process and wait for it."""
        os.close(self._go)
        if os.waitpid(self._pid, 0)[1] != 0:
            raise SystemExit("control: a child failed")


def _two_numbers(descriptor: int) -> tuple[int, int]:
    with open(descriptor, "rb") as pipe:
        fields = pipe.read().split()
    if len(fields) != 2:
        raise SystemExit("control: a child ended before it had its memory")
    return int(fields[0]), int(fields[1])


def leaf(size: int, report: int, waits: int) -> None:
    """Run the process of a `Leaf`."""
    before, file = resident()
    memory = touched(size)
    os.write(report, b"%d %d" % (before + size, file))
    os.close(report)
    os.read(waits, 1)
    memory.close()


# Each pattern returns the true peaks in bytes: of the largest process, of all processes together, and of page cache.


def one(size: int, hold_s: float, after_s: float = 0.0) -> tuple[int, int, int]:
    """Touch memory, keep it for `hold_s`, free it, and continue for `after_s`."""
    before = sum(resident())
    memory = touched(size)
    time.sleep(hold_s)
    memory.close()
    time.sleep(after_s)
    return before + size, before + size, 0


def spike(size: int, spike_s: float, hold_s: float) -> tuple[int, int, int]:
    """Touch memory for `spike_s` in the middle of `hold_s`."""
    time.sleep(hold_s / 2)
    peaks = one(size, spike_s)
    time.sleep(hold_s / 2)
    return peaks


def parallel(size: int, count: int, hold_s: float) -> tuple[int, int, int]:
    """Have `count` children keep `size` bytes each at the same time."""
    leaves = [Leaf(size) for _ in range(count)]
    time.sleep(hold_s)
    own, file = resident()
    for each in leaves:
        each.end()
    tree = own + sum(each.anonymous for each in leaves) + max(file, *(each.file for each in leaves))
    return max(each.anonymous + each.file for each in leaves), tree, 0


def in_turn(size: int, count: int, hold_s: float) -> tuple[int, int, int]:
    """Have `count` children keep `size` bytes each, one after another."""
    process = tree = 0
    for _ in range(count):
        each = Leaf(size)
        time.sleep(hold_s)
        own, file = resident()
        each.end()
        process = max(process, each.anonymous + each.file)
        tree = max(tree, own + each.anonymous + max(file, each.file))
    return process, tree, 0


def forked(size: int, count: int, hold_s: float) -> tuple[int, int, int]:
    """Share `size` bytes with `count` forked children that only read them."""
    before = sum(resident())
    memory = touched(size)
    children: list[tuple[int, int, int]] = []
    for _ in range(count):
        sizes, report = os.pipe()
        waits, go = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(go)
            for _, _, other in children:  # an inherited end would keep the other children waiting
                os.close(other)
            _run_forked_child(memory, report, waits)
        os.close(report)
        os.close(waits)
        children.append((pid, sizes, go))
    own = sum(_two_numbers(sizes)[0] for _, sizes, _ in children)
    time.sleep(hold_s)
    for pid, _, go in children:
        os.close(go)
        os.waitpid(pid, 0)
    memory.close()
    return before + size, before + size + own, 0


def _run_forked_child(memory: mmap.mmap, report: int, waits: int) -> None:
    """Read the shared pages, report the private memory of this child, and wait for the signal to end."""
    sum(memory[::_PAGE])
    private = 0
    with open("/proc/self/smaps_rollup", "rb") as rollup:
        for line in rollup:
            if line.startswith(b"Private_Dirty:"):
                private = int(line.split()[1]) * 1024
    os.write(report, b"%d 0" % private)
    os.close(report)
    os.read(waits, 1)
    os._exit(0)


def cache(size: int, hold_s: float, folder: str) -> tuple[int, int, int]:
    """Fill page cache by writing and reading a file of `size` bytes, in a process with a buffer of 1 MiB."""
    path = os.path.join(folder, f"control-{os.getpid()}.bin")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    buffer = bytearray(MIB)
    buffer[::_PAGE] = b"\1" * (MIB // _PAGE)
    process = sum(resident())
    try:
        for _ in range(size // MIB):
            os.write(descriptor, buffer)
        os.fsync(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        while os.readv(descriptor, [buffer]):
            pass
        time.sleep(hold_s)
    finally:
        os.close(descriptor)
        os.unlink(path)
    return process, process, size // MIB * MIB


def main(arguments: list[str]) -> int:
    """Run a pattern and report its peaks; return 2 for unusable arguments."""
    if len(arguments) == 4 and arguments[0] == "leaf":
        leaf(*map(int, arguments[1:]))
        return 0
    try:
        pattern, *rest = arguments
        given = dict(zip(rest[::2], rest[1::2], strict=True))
        truth_file, folder = given.pop("--truth", None), given.pop("--folder", os.curdir)
        size_mib, count, hold_s, spike_s = (float(given.pop(name, value)) for name, value in _OPTIONS.items())
        if pattern not in PATTERNS or given or not size_mib >= 1 or not count >= 1:
            raise ValueError
    except ValueError:
        what = f"{' '.join(arguments)!r} cannot be used" if arguments else "there is no pattern"
        valid = f"PATTERN is {', '.join(PATTERNS)}; the options, with a number each, are {', '.join(_OPTIONS)}"
        print(f"control: {what}: write control PATTERN [OPTIONS]. {valid}", file=sys.stderr)
        return 2
    size, children = int(size_mib * MIB) // _PAGE * _PAGE, int(count)
    patterns = {
        "one": lambda: one(size, hold_s),
        "freed": lambda: one(size, hold_s, hold_s),
        "spike": lambda: spike(size, spike_s, hold_s),
        "parallel": lambda: parallel(size, children, hold_s),
        "turn": lambda: in_turn(size, children, hold_s),
        "fork": lambda: forked(size, children, hold_s),
        "cache": lambda: cache(size, hold_s, folder),
    }
    process, tree, cached = patterns[pattern]()
    sizes = f'"process_bytes": {process}, "tree_bytes": {tree}, "cache_bytes": {cached}'
    line = f'{{"pattern": "{pattern}", {sizes}}}\n'
    if truth_file is None:
        sys.stdout.write(line)
    else:
        with open(truth_file, "w", encoding="utf-8") as file:
            file.write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
