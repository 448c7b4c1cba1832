"""`python -m runmem.pycompss`: prints the folder that makes ``import pycompss`` work in plain Python and notebooks."""

from __future__ import annotations

import sys

from runmem.pycompss.install import ALIAS_FOLDER
from runmem.standard_error import say

__all__: list[str] = []


def _main() -> None:
    if sys.argv[1:]:
        say(f"{sys.argv[0]}: error: programs are started with runcompss, which takes the same options as COMPSs's.")
        sys.exit(2)
    print(ALIAS_FOLDER)


if __name__ == "__main__":
    _main()
