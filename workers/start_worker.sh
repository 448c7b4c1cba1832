#!/usr/bin/env bash
# Start a worker on this node, for `runmem --scheduler ADDRESS app.py`.
#
#     workers/start_worker.sh ADDRESS [option of `dask worker` ...]
#
# ADDRESS is the address printed by `dask scheduler`, such as tcp://10.0.0.5:8786. The worker has one thread, so that the
# peak of the process belongs to one task, and a nanny, which restarts it and records why it died. Start one per core.
#
#   PYTHON               the interpreter (default: python); it must have the master's versions of Python and runmem
#   RUNMEM_ENV_SCRIPT    a script to source first, such as workers/env.sh
#   RUNMEM_WORKER_MEMORY memory limit, such as 2GiB (default: an equal share per core of this node's limit)
#
# The worker runs in the foreground and ends at Ctrl-C or SIGTERM. Its name is the host name and the process id.
set -euo pipefail

if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: $0 ADDRESS [option of dask worker ...]     e.g. $0 tcp://10.0.0.5:8786" >&2
    exit 2
fi
address=$1
shift

if [ -n "${RUNMEM_ENV_SCRIPT:-}" ]; then
    # shellcheck disable=SC1090
    . "$RUNMEM_ENV_SCRIPT" >&2
fi
python=${PYTHON:-python}
if ! command -v "$python" >/dev/null; then
    echo "$0: there is no $python here: set PYTHON to the interpreter that has runmem" >&2
    exit 2
fi

# Dask's default is the memory of the machine, without the limits of the cgroup and of Slurm.
limit='
import os, sys
try:
    import distributed, runmem
    from runmem.memory.limits import memory_limit, share
    from runmem.units import parse_bytes
except ImportError as error:
    sys.exit(f"{error}: {sys.executable} cannot run workers. Install runmem there, in the version of the master "
             "(pip install runmem), or set PYTHON to the interpreter that has it.")
asked = os.environ.get("RUNMEM_WORKER_MEMORY")
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
try:
    print(parse_bytes(asked) if asked else share(memory_limit(), cores))
except ValueError as error:
    sys.exit(f"RUNMEM_WORKER_MEMORY: {error}")
'
bytes=$("$python" -c "$limit") || exit 2

# Dask's profiler reads the frames of running tasks a hundred times per second and keeps references to their objects, so that
# memory freed by a task would count at its end and in the next task.
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED="${DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED:-False}"

exec "$python" -m dask worker "$address" \
    --nworkers 1 --nthreads 1 --memory-limit "$bytes" --name "$(uname -n)-$$" --no-dashboard "$@"
