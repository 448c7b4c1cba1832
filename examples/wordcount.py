"""Count the words in a folder of text, with one task per group of files and a tree of tasks that adds the counts.

    runmem --python_memory_profile examples/wordcount.py [FOLDER] [--files_per_task N]
    python examples/wordcount.py [FOLDER] [--files_per_task N]

FOLDER is searched for .py, .txt, .rst and .md files; its default is the standard library of the running Python, with
some 1,800 files. Both commands print the same.
"""

import argparse
import os
import re
import sys
import sysconfig
from collections import Counter

from runmem import task, wait_on

SUFFIXES = (".py", ".txt", ".rst", ".md")
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}
WORD = re.compile(r"[^\W\d_]+")
SHOWN = 10


@task(returns=1)
def count_words(paths):
    """Return the number of occurrences of each word in the files, and the unreadable files."""
    counts, unreadable = Counter(), []
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            unreadable.append(path)
        else:
            counts.update(WORD.findall(text.lower()))
    return counts, unreadable


@task(returns=1)
def merge_counts(left, right):
    """Add two results of `count_words` without changing them, because other tasks may read them too."""
    return left[0] + right[0], left[1] + right[1]


def text_files(folder):
    """Return the paths of the text files below `folder`, sorted."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        found += [os.path.join(place, name) for name in names if name.endswith(SUFFIXES)]
    return sorted(found)


def merged(counts):
    """Add all `counts`, two at a time."""
    while len(counts) > 1:
        pairs = [counts[start : start + 2] for start in range(0, len(counts), 2)]
        counts = [merge_counts(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return counts[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=sysconfig.get_paths()["stdlib"])
    parser.add_argument("--files_per_task", type=int, default=50, metavar="N", help="default: 50")
    arguments = parser.parse_args()
    if arguments.files_per_task < 1:
        parser.error("--files_per_task: give a whole number, 1 or more")
    files = text_files(arguments.folder)
    if not files:
        sys.exit(f"wordcount: there is no {', '.join(SUFFIXES)} file in {arguments.folder!r}")
    step = arguments.files_per_task
    groups = [files[start : start + step] for start in range(0, len(files), step)]
    counts, unreadable = wait_on(merged([count_words(group) for group in groups]))
    print(f"{len(files) - len(unreadable):,} files, {len(unreadable):,} unreadable")
    print(f"{counts.total():,} words, {len(counts):,} distinct")
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
        print(f"{count:9,} {word}")


if __name__ == "__main__":
    main()
