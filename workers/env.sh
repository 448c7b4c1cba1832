# Environment of the workers. Sourced by bash before the workers of the embedded cluster start:
#
#     runmem --env_script workers/env.sh app.py
#
# and by workers/start_worker.sh, when RUNMEM_ENV_SCRIPT names it. Copy it and change the copy. What it prints goes to
# standard error; a command that fails stops the run before it begins (exit code 2).

# One task a worker, one worker a core: numerical libraries must not start a thread a core in each of them.
export OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export MKL_NUM_THREADS=1

# Modules and virtual environments of the site:
# module load python/3.11
# . "$HOME/venvs/runmem/bin/activate"

# One file for the reports of every @profile, of all workers (each report is appended whole):
# export COMPSS_PROFILING_FILE="$PWD/profiles.txt"

# Fewer memory arenas: glibc keeps less freed memory in processes with several threads.
# export MALLOC_ARENA_MAX=2
