"""`pycompss.api.api`."""

from runmem.graph.groups import TaskGroup
from runmem.graph.synchronise import barrier as compss_barrier
from runmem.graph.synchronise import barrier_group as compss_barrier_group
from runmem.graph.synchronise import cancel_group as compss_cancel_group
from runmem.graph.synchronise import delete_file as compss_delete_file
from runmem.graph.synchronise import delete_object as compss_delete_object
from runmem.graph.synchronise import file_exists as compss_file_exists
from runmem.graph.synchronise import open_file as compss_open
from runmem.graph.synchronise import wait_on as compss_wait_on
from runmem.graph.synchronise import wait_on_file as compss_wait_on_file

compss_wait_on_directory = compss_wait_on_file

__all__ = [
    "compss_wait_on", "compss_barrier", "compss_barrier_group", "compss_cancel_group", "compss_open",
    "compss_wait_on_file", "compss_wait_on_directory", "compss_file_exists", "compss_delete_file",
    "compss_delete_object", "TaskGroup",
]  # fmt: skip
