# Environment of the workers. Sourced by bash before the workers of the embedded cluster start:
#
#     runmem --env_script workers/env.sh app.py
#
# and by workers/start_worker.sh, when RUNMEM_ENV_SCRIPT names it. Copy it and change the copy. Its output goes to
# standard error; if a command fails, the run does not start (exit code 2).

# One thread per worker: numerical libraries would otherwise start one thread per core in each worker.
export OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export MKL_NUM_THREADS=1

# Modules and virtual environments of the site:
# module load python/3.11
# . "$HOME/venvs/runmem/bin/activate"

# One file for the @profile reports of all workers:
# export COMPSS_PROFILING_FILE="$PWD/profiles.txt"

# Fewer arenas, so that glibc keeps less freed memory in processes with several threads:
# export MALLOC_ARENA_MAX=2
