"""Which way imports point: to lower rows; within a row only where it is listed, with the reason."""

import ast
from pathlib import Path

import pytest

import plr_edge

PACKAGE = Path(plr_edge.__file__).parent
ROWS = (
    {"assets", "errors"},
    {
        "admission", "boards", "bundle", "bundle_check", "bundle_write", "classifiers", "codec",
        "config", "derived_cache", "files", "gate", "memory", "metrics", "mlp", "onnx_check",
        "preprocessing", "schedule", "signing", "tensors",
    },
    {
        "backbones", "engines", "gaussian_generator", "generative", "generator", "governor",
        "learner", "meters", "store", "stream",
    },
    {"export", "profiling", "report", "runtime", "verify"},
    {"bench", "serve"},
    {"__init__", "__main__", "cli"},
)  # fmt: skip
WITHIN = {
    ("bundle", "bundle_check"): "limits and digests of a manifest have a file of their own",
    ("bundle", "codec"): "a bundle says what its latents look like",
    ("bundle", "files"): "members are read as regular files",
    ("bundle", "onnx_check"): "models of strangers are checked before any runtime sees them",
    ("bundle", "preprocessing"): "a bundle says what turns an image into an input",
    ("bundle", "schedule"): "a bundle lists its levels",
    ("bundle", "signing"): "a signature covers the manifest",
    ("bundle", "tensors"): "weights of strangers are checked",
    ("bundle_check", "bundle"): "the type of what is checked",
    ("bundle_write", "bundle"): "what is written is what is read",
    ("bundle_write", "bundle_check"): "digests",
    ("bundle_write", "files"): "synced, and replaced as a whole",
    ("bundle_write", "signing"): "a signature covers the manifest",
    ("derived_cache", "schedule"): "features are kept by level",
    ("generative", "gaussian_generator"): "one of the generators it rehearses from",
    ("generative", "generator"): "another",
    ("profiling", "export"): "a profile of a backbone that is not exported yet",
    ("profiling", "runtime"): "what is profiled",
    ("runtime", "export"): "the adaptive part is divided as the export divided it",
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


def test_engines_and_learner_do_not_know_each_other():
    assert not {("engines", "learner"), ("learner", "engines")} & edges()


def test_the_store_knows_nothing_of_what_it_stores():
    below = {b for a, b in edges() if a == "store"}
    assert below <= {"errors", "files", "tensors"}


def test_an_import_that_points_upward_is_found(tmp_path):
    """The check itself: in a function, by `import`, and of the package's own names."""
    file = tmp_path / "x.py"
    file.write_text(
        "import plr_edge.cli.options\nfrom plr_edge import bench\n"
        "def f():\n    from plr_edge.serve.api import make_app\n"
    )
    assert imported(file) == {"cli", "bench", "serve"}
