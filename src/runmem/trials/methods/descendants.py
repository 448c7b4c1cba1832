"""Find the processes of a command."""

from __future__ import annotations

from pathlib import Path

__all__ = ["tree_of"]


def tree_of(root: int) -> list[int]:
    """Return the process ids of `root` and its descendants, `root` first.

    Assumption: the kernel lists children (CONFIG_PROC_CHILDREN, set by distributions); otherwise the parent of every
    process is read, which takes some milliseconds. Limitation: a descendant whose parent has ended is not found.
    """
    found = [root]
    for pid in found:
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            continue
        for thread in threads:
            try:
                found += [int(child) for child in (thread / "children").read_text().split()]
            except FileNotFoundError:
                if (thread / "stat").exists():
                    return _by_parents(root)
            except OSError:
                continue
    return found


def _by_parents(root: int) -> list[int]:
    import psutil

    try:
        return [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]
    except psutil.Error:
        return [root]
