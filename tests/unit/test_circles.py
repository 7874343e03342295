"""No module imports, by however many steps, a module that imports it: each can be read alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = ("db", "workers", "producer")


def modules(root: Path, packages: tuple[str, ...]) -> dict[str, Path]:
    """Every module of these packages by its dotted name; a package's is that of its `__init__`."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in (root / package).rglob("*.py")
    }


def imported(source: str, known: dict[str, Path]) -> Iterator[str]:
    """Modules that a source imports anywhere in it: in functions and for types alone, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module


def circle(root: Path, packages: tuple[str, ...]) -> list[str]:
    """The first circle found, as the way round; empty: there is none."""
    known = modules(root, packages)
    graph = {name: set(imported(path.read_text(), known)) for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_is_no_circle() -> None:
    assert circle(ROOT, LAYERS) == []


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path: Path) -> None:
    package = tmp_path / "made"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def late():\n    from made import two\n")
    (package / "two.py").write_text("if TYPE_CHECKING:\n    from made.one import late\n")
    assert set(circle(tmp_path, ("made",))) == {"made.one", "made.two"}
    (package / "two.py").write_text("from pathlib import Path\n")
    assert circle(tmp_path, ("made",)) == []
