"""Runs a packed function in another Python: a process of an MPI, or one in a container.

Started by path, as ``function_process.py FOLDER``, with no more of runmem than this file: an image may not have it. The
folder has ``call`` (two pickles: what is needed to read the second one, and the call) and a copy of cloudpickle, and
gets ``result-RANK``: a pickle of ``("value", value, written)`` or ``("error", exception or text, traceback)``.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import Any

_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def main(folder: str) -> int:
    with open(os.path.join(folder, "call"), "rb") as file:
        about = pickle.load(file)
        rank = _rank(about["processes"])
        if list(sys.version_info[:2]) != about["version"]:
            theirs, ours = (".".join(map(str, version)) for version in (about["version"], sys.version_info[:2]))
            text = f"the function was packed by Python {theirs} and this is {ours}: choose an image with the same"
            return _write(folder, rank, ("error", text, ""))
        sys.path[:0] = [path for path in about["path"] if path not in sys.path]
        sys.path.insert(0, os.path.join(folder, "modules"))  # before another version in the image
        try:
            import cloudpickle

            function, args, kwargs, written = cloudpickle.load(file)
            args, kwargs = _layouts(about, rank, list(args), dict(kwargs))
            value = function(*args, **kwargs)
            if hasattr(value, "__await__"):
                import asyncio

                value = asyncio.run(_awaited(value))
            new = {name: args[name] if isinstance(name, int) else kwargs[name] for name in written} if rank == 0 else {}
            return _write(folder, rank, ("value", value, new))
        except BaseException as error:
            return _write(folder, rank, ("error", error, traceback.format_exc()))


async def _awaited(value: Any) -> Any:
    return await value


def _rank(processes: int) -> int:
    """Return the number of this process among those of the call."""
    for name in _RANKS:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    if processes > 1:
        from mpi4py import MPI  # type: ignore[import-not-found, unused-ignore]

        return int(MPI.COMM_WORLD.Get_rank())
    return 0


def _layouts(about: dict[str, Any], rank: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Leave to this process only its blocks of the collections that have a layout."""
    for place, (count, length, stride) in about["layouts"].items():
        arguments = args if isinstance(place, int) else kwargs
        items = arguments[place]
        starts = [block * stride for block in range(count) if block % about["processes"] == rank]
        arguments[place] = [items[at] for start in starts for at in range(start, start + length)]
    return args, kwargs


def _write(folder: str, rank: int, result: tuple[str, Any, Any]) -> int:
    path = os.path.join(folder, f"result-{rank}")
    try:
        import cloudpickle

        data = cloudpickle.dumps(result)
    except BaseException as error:
        text = result[1] if isinstance(result[1], str) else repr(error)
        data = pickle.dumps(("error", text, result[2] if result[0] == "error" else ""))
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)
    return 0 if result[0] == "value" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
