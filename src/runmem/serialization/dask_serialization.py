"""Registers serializers of stored values with Dask: large blocks of memory travel beside the pickle, without a copy.

By default Dask pickles results that pass its scheduler in an older way, with all blocks copied into the pickle. A
process that receives such values must have imported this module.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from distributed.protocol import dask_deserialize, dask_serialize

from runmem.serialization.packed import Packed, Wrapped

__all__: list[str] = []


def _frames(value: Packed | Wrapped) -> tuple[dict[str, object], list[object]]:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    return {}, [data, *(buffer.raw() for buffer in buffers)]


def _value(header: dict[str, Any], frames: Sequence[Any]) -> Any:
    return pickle.loads(frames[0], buffers=frames[1:])


for _kind in (Packed, Wrapped):
    dask_serialize.register(_kind)(_frames)
    dask_deserialize.register(_kind)(_value)
