"""The layers: every import in src/runmem, including local and type-checking ones, goes to a lower rank."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "runmem"
ROOT = "<root>"
RANKS = {
    ROOT: 10, "__main__": 10,
    "cli": 9,
    "reports": 8, "dashboard": 8, "trials": 8, "task_runner": 8, "submission": 8, "lsst": 8,
    "measurement": 8, "preload": 8,
    "pycompss": 8,  # names beside the package root's, but the command line puts them in place: one below it
    "execution": 7, "commands": 7, "worker": 6,
    "collection": 5, "metrics": 5,
    "serialization": 4, "pipe_base": 4,
    "graph": 3, "clusters": 3, "verify": 3,
    "memory": 2, "store": 2,
    "formats": 1, "events": 1, "settings": 1, "extensions": 1, "dask_logging": 1, "dask_private": 1, "slurm": 1,
    "shadowed": 1, "node": 1,
    "errors": 0, "units": 0, "dask_configuration": 0, "standard_error": 0, "start_signals": 0, "reading": 0, "table": 0,
    "deadlines": 0, "deaths": 0,
}  # fmt: skip
DASK = {"dask", "distributed", "bokeh", "tornado"}


class Import(NamedTuple):
    """One imported module: dotted name, line, and whether only a type checker sees it."""

    target: str
    line: int
    typing_only: bool


def modules(source: Path) -> dict[str, Path]:
    """Return dotted name (`runmem.graph.task`; `runmem.graph` for an ``__init__``) to file."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """Yield every import of a module, in functions and under TYPE_CHECKING too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    yield from _walk(ast.parse(path.read_bytes()), package, known, False)


def _walk(node: ast.AST, package: str, known: dict[str, Path], typing_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, typing_only) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:  # a name imported from a package may be a module of it
            inner = f"{base}.{alias.name}"
            yield Import(inner if inner in known else base, node.lineno, typing_only)
    elif isinstance(node, ast.Call) and _is_import_module(node):
        yield Import(node.args[0].value, node.lineno, typing_only)  # type: ignore[attr-defined]
    if isinstance(node, ast.If) and "TYPE_CHECKING" in {getattr(n, "id", "") for n in ast.walk(node.test)}:
        for part in node.body:
            # `if TYPE_CHECKING or __package__:` runs too
            yield from _walk(part, package, known, typing_only or isinstance(node.test, ast.Name))
        for part in node.orelse:
            yield from _walk(part, package, known, typing_only)
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, known, typing_only)


def _is_import_module(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    return name in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str)


def unit(name: str) -> str:
    """Return the folder or module below `runmem` that a module belongs to; `<root>` for the package itself."""
    return name.split(".")[1] if "." in name else ROOT


def rank(name: str) -> int:
    try:
        return RANKS[unit(name)]
    except KeyError:
        raise AssertionError(f"{name}: {unit(name)!r} has no rank; give it one here and in the architecture") from None


def violations(source: Path) -> list[str]:
    """Return the forbidden imports: of a higher or equal rank in another unit, or of the package root."""
    found = []
    known = modules(source)
    for name, path in known.items():
        for entry in imports_of(name, path, known):
            if entry.target.split(".")[0] != "runmem":
                continue
            where = f"{path.relative_to(source.parent)}:{entry.line}"
            if entry.target == "runmem":
                found.append(f"{where} imports the package root")
            elif entry.target not in known:
                found.append(f"{where} imports {entry.target}, which is no module")
            elif unit(entry.target) != unit(name) and rank(entry.target) >= rank(name):
                found.append(f"{where} (rank {rank(name)}) imports {entry.target} (rank {rank(entry.target)})")
    return found


def cycles(source: Path) -> list[list[str]]:
    """Return the import cycles among modules, through imports at the top of a file or in a function.

    What only a type checker sees makes no circle at run time; inside one folder two modules may know each other so.
    """
    known = modules(source)
    graph = {
        name: sorted({e.target for e in imports_of(name, path, known) if e.target in known and not e.typing_only})
        for name, path in known.items()
    }
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in graph[name]:
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def test_every_import_runs_to_a_lower_layer():
    assert violations(SOURCE) == []


def test_no_modules_import_each_other_in_a_circle():
    assert [" -> ".join(cycle) for cycle in cycles(SOURCE)] == []


def test_the_graph_knows_no_cluster():
    known = modules(SOURCE)
    found = {
        f"{name}:{entry.line} {entry.target}"
        for name, path in known.items() if unit(name) == "graph"
        for entry in imports_of(name, path, known) if entry.target.split(".")[0] in DASK
    }  # fmt: skip
    assert found == set()


def test_the_architecture_lists_all_files_of_its_rooms_and_no_others():
    page = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text()
    table = page.partition("## Files of the rooms")[2].partition("\n## ")[0]
    rooms = re.findall(r"^\| \*\*`(\w+)/`\*\*", table, re.MULTILINE)
    listed = sorted(re.findall(r"`(\w+\.py)`", table))
    files = [path.name for room in rooms for path in (SOURCE / room).rglob("*.py") if path.name != "__init__.py"]
    assert "worker" in rooms
    assert listed == sorted(files)


WHERE_INSTALLED = {"pynvml"}  # the sampler does without it


def test_the_sampler_of_a_node_needs_only_the_standard_library():
    known = modules(SOURCE)
    found = set()
    for name, path in known.items():
        if unit(name) == "node":
            for entry in imports_of(name, path, known):
                top = entry.target.split(".")[0]
                inside = unit(entry.target) == "node" or f"runmem.node.{entry.target}" in known  # started by path
                if top not in sys.stdlib_module_names and top not in WHERE_INSTALLED and not inside:
                    found.add(f"{name}:{entry.line} {entry.target}")
    assert found == set()


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("graph/task.py", "from runmem.execution import run", "imports runmem.execution.run (rank 7)"),
        ("graph/task.py", "def f():\n    import runmem.cli.program", "imports runmem.cli.program (rank 9)"),
        ("graph/task.py", "from runmem.clusters import local", "imports runmem.clusters.local (rank 3)"),
        ("graph/task.py", "from ..execution import run", "imports runmem.execution.run (rank 7)"),
        ("graph/task.py", "from runmem import task", "imports the package root"),
        (
            "graph/task.py",
            "import importlib\nimportlib.import_module('runmem.cli.program')",
            "runmem.cli.program (rank",
        ),
        (
            "units.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from runmem.errors import RunmemError",
            "(rank 0) imports runmem.errors (rank 0)",
        ),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, text, complaint):
    source = tmp_path / "runmem"
    for module in ("__init__", "errors", "units", "graph/task", "execution/run", "cli/program", "clusters/local"):
        (source / module).parent.mkdir(parents=True, exist_ok=True)
        (source / f"{module}.py").touch()
    for folder in ("graph", "execution", "cli", "clusters"):
        (source / folder / "__init__.py").touch()
    assert violations(source) == []
    (source / file).write_text(text)
    assert len(found := violations(source)) == 1
    assert complaint in found[0]


def test_a_circle_through_a_local_import_is_found(tmp_path):
    source = tmp_path / "runmem"
    source.mkdir()
    (source / "__init__.py").touch()
    (source / "a.py").write_text("import runmem.b")
    (source / "b.py").write_text("def f():\n    from runmem.a import g")
    assert cycles(source) == [["runmem.a", "runmem.b", "runmem.a"]]
