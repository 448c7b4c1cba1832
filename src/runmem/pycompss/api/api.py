"""`pycompss.api.api`."""

from runmem.graph.synchronise import barrier as compss_barrier
from runmem.graph.synchronise import delete_object as compss_delete_object
from runmem.graph.synchronise import open_file as compss_open
from runmem.graph.synchronise import wait_on as compss_wait_on
from runmem.graph.synchronise import wait_on_file as compss_wait_on_file

__all__ = ["compss_wait_on", "compss_barrier", "compss_open", "compss_wait_on_file", "compss_delete_object"]
