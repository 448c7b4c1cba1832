"""Memory profile of each line of a task, the example of the PyCOMPSs manual.

    runmem --python_memory_profile examples/increment.py [VALUES]
    python examples/increment.py [VALUES]

Calls the task with 1, 2 ... VALUES (3 by default); the largest call takes 92 MB times VALUES. The profile of line
``b`` with value 3 shows +22.9 MiB, of line ``c`` +228.9 MiB, of ``del b`` -22.9 MiB.
"""

import sys

from runmem import profile, task, wait_on


# The lines are those of the manual, so that the table is the same.
# ruff: noqa: F841
# fmt: off
@task(returns=1)
@profile()
def increment(value):
    a = [1] * (10 ** 6)
    b = [2] * (value * 10 ** 6)
    c = [3] * (value * 10 ** 7)
    del b
    return value + 1
# fmt: on


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    values = range(1, count + 1)
    results = wait_on([increment(value) for value in values])
    for value, result in zip(values, results, strict=True):
        print(f"increment({value}) = {result}")


if __name__ == "__main__":
    main()
