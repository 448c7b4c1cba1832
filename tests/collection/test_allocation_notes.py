"""The end of a run names what was to be recorded and was not."""

from runmem.collection.allocation_notes import AllocationNotes
from runmem.events import ProfileReported, RunEnded, TaskSubmitted


def test_names_without_a_call_and_reasons_are_printed_once_at_the_end():
    said = []
    notes = AllocationNotes(["fit", "app.fit", "Model.fit", "nosuch"], said.append)
    for name in ("fit", "fit", "load"):
        notes.task_submitted(TaskSubmitted(1, name))
    for reason in ("why", "why", None):
        notes.profile_reported(ProfileReported("n", 1, 1, "load", "text", reason))
    assert said == []
    notes.run_ended(RunEnded(0))
    assert said == [
        "runmem: note: --memray=nosuch: no task of this name was called. The tasks are fit, load.",
        "runmem: note: the allocations of 2 calls of load were not recorded: why",
    ]


def test_a_program_that_calls_no_task_is_told_so():
    said = []
    AllocationNotes(["fit"], said.append).run_ended(RunEnded(0))
    assert said == ["runmem: note: --memray=fit: no task of this name was called. No task was called."]
