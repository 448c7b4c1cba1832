"""Print one of the two set-up commands of README.md: ``python tests/readme_commands.py 2``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def setup_commands() -> list[str]:
    """Return the commands of the first two shell blocks of README.md."""
    blocks = re.findall(r"```(?:bash|console|shell|sh)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [" ".join(block.replace("\\\n", " ").split()) for block in blocks[:2]]


if __name__ == "__main__":
    print(setup_commands()[int(sys.argv[1]) - 1])
