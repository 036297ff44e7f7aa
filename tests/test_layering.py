"""Imports point one way: a room imports lower rows only, and no two files import each other.

`docs/architecture.md` draws the rows.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import plr_edge

PACKAGE = Path(plr_edge.__file__).parent
ROWS = (
    {"assets", "errors"},
    {"config", "files", "metrics", "tensors"},
    {"boards", "classifiers"},
    {"graph", "replay"},
    {"bundle", "generative", "meters", "report", "store", "stream"},
    {"backbones", "engines"},
    {"doctor", "export"},
    {"runtime"},
    {"robot"},
    {"profiling", "ros", "serve"},
    {"demo", "planning"},
    {"__init__", "__main__", "cli"},
)
WITHIN = {
    ("__main__", "cli"): "`python -m plr_edge`",
}


def row_of(room: str) -> int:
    found = [row for row, rooms in enumerate(ROWS) if room in rooms]
    assert found, f"plr_edge/{room} is in no row; give it one in tests/test_layering.py"
    return found[0]


def imported(file: Path) -> set[str]:
    """Return the rooms of plr_edge that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            names = [node.module or ""]
            if node.module == "plr_edge":
                names = [f"plr_edge.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("plr_edge.")}
    return rooms


def edges() -> set[tuple[str, str]]:
    found = set()
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        found |= {(room, other) for other in imported(file) if other != room}
    # data, without code
    return {(a, b) for a, b in found if (PACKAGE / b).with_suffix(".py").exists()
            or (PACKAGE / b / "__init__.py").exists()}  # fmt: skip


@pytest.mark.parametrize("room", sorted({file.stem if file.is_file() else file.name
                                         for file in PACKAGE.iterdir()
                                         if file.suffix == ".py"
                                         or (file / "__init__.py").exists()}))  # fmt: skip
def test_every_room_has_a_row(room):
    assert row_of(room) >= 0


def test_imports_point_to_lower_rows():
    upward = [
        f"{a} -> {b}" for a, b in sorted(edges())
        if row_of(b) >= row_of(a) and (a, b) not in WITHIN and a != "__init__"
    ]  # fmt: skip
    assert upward == []


def test_every_exception_is_within_a_row_and_still_needed():
    for pair in WITHIN:
        assert row_of(pair[0]) == row_of(pair[1]), pair
    assert set(WITHIN) <= edges()


def modules(package: Path) -> dict[str, Path]:
    """Return the files of a package by their dotted names."""
    files = sorted(package.rglob("*.py"))
    dotted = (".".join(f.relative_to(package.parent).with_suffix("").parts) for f in files)
    return {name.removesuffix(".__init__"): f for name, f in zip(dotted, files, strict=True)}


def file_imports(name: str, files: dict[str, Path]) -> set[str]:
    """Return the files that a file imports, anywhere in it, `if TYPE_CHECKING` included."""
    found = set()
    for node in ast.walk(ast.parse(files[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in files else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & set(files)) - {name}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return one circle of a graph, empty if there is none."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", [PACKAGE, PACKAGE.parent / "benchmarks"], ids=lambda p: p.name)
def test_no_two_files_import_each_other_even_through_others(package):
    files = modules(package)
    assert len(files) > 20
    assert circle({name: file_imports(name, files) for name in files}) == []


def test_a_circle_between_files_is_found(tmp_path):
    package = tmp_path / "p"
    package.mkdir()
    (package / "a.py").write_text("def f():\n    from p.b import g\n")
    (package / "b.py").write_text("import p.c\n")
    (package / "c.py").write_text("if TYPE_CHECKING:\n    from p import a\n")
    files = modules(package)
    found = circle({name: file_imports(name, files) for name in files})
    assert set(found) == {"p.a", "p.b", "p.c"}


def test_engines_and_learner_do_not_know_each_other():
    assert not {("engines", "replay"), ("replay", "engines")} & edges()


def test_the_hall_holds_at_most_ten_files():
    assert len([file for file in PACKAGE.iterdir() if file.is_file()]) <= 10


def test_the_store_knows_nothing_of_what_it_stores():
    below = {b for a, b in edges() if a == "store"}  # not even of networks, classes or frames
    assert below <= {"errors", "files", "tensors"}


def test_an_import_that_points_upward_is_found(tmp_path):
    """The check itself: in a function, by `import`, and of the package's own names."""
    file = tmp_path / "x.py"
    file.write_text(
        "import plr_edge.cli.options\nfrom plr_edge import bench\n"
        "def f():\n    from plr_edge.serve.api import make_app\n"
    )
    assert imported(file) == {"cli", "bench", "serve"}
