"""`pycompss.runtime.management.object_tracker`: which objects of the program tasks have used."""

from __future__ import annotations

from runmem.graph.current import current_program

__all__ = ["OT", "ObjectTracker"]


class ObjectTracker:
    """The part of PyCOMPSs's object tracker that programs look at."""

    def get_object_id(self, obj: object) -> str:
        """Return a text that identifies an object that tasks have used, empty for any other and for deleted ones."""
        program = current_program()
        return str(id(obj)) if program is not None and program.is_used(obj) else ""

    @property
    def pending_to_synchronize(self) -> frozenset[str]:
        """The identifiers of the objects that tasks have written."""
        program = current_program()
        return frozenset() if program is None else frozenset(map(str, program.written_objects()))


OT = ObjectTracker()
