"""Datasets of two folders: one that is read only, and one for what is made from it."""

from __future__ import annotations

from typing import Any

from runmem.pipe_base.butler import Butler

__all__ = ["InputAndOutput", "output_of"]


class InputAndOutput:
    """Reads from the output folder what is there, else from the input folder; writes to the output folder."""

    def __init__(self, source: Butler, output: Butler) -> None:
        self.source, self.output = source, output

    def get(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> Any:
        """Return a dataset."""
        holder = self.output if self.output.exists(datasetType, dataId, **kwargs) else self.source
        return holder.get(datasetType, dataId, **kwargs)

    def put(self, obj: object, datasetType: str, /, dataId: object = None, **kwargs: object) -> object:
        """Store a dataset."""
        return self.output.put(obj, datasetType, dataId, **kwargs)

    def exists(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> bool:
        """Return True if a dataset is in either folder."""
        return any(bool(butler.exists(datasetType, dataId, **kwargs)) for butler in (self.output, self.source))

    def dataIds(self, datasetType: str) -> list[object]:
        """Return the data ids of both folders."""
        found = [data_id for butler in (self.source, self.output) for data_id in butler.dataIds(datasetType)]  # type: ignore[attr-defined]
        return [data_id for n, data_id in enumerate(found) if data_id not in found[:n]]


def output_of(butler: Butler) -> Butler:
    """Return the Butler of the outputs, without what is in the input only."""
    return butler.output if isinstance(butler, InputAndOutput) else butler
