"""`pycompss.api.data_transformation`: the decorator, and the kinds of `type`."""

from runmem.commands.needs import data_transformation
from runmem.commands.transformations import KINDS, Transformation, transformation_of

__all__ = ["DTObject", "DataTransformation", "data_transformation", "dt", "dto", *KINDS]

DataTransformation = dt = data_transformation


def dto(*args: object, **options: object) -> Transformation | None:
    """Return a transformation for ``dt=`` of a call; it takes what `data_transformation` takes."""
    return transformation_of(args, options)


DTObject = dto
globals().update({name: number for number, name in enumerate(KINDS)})
