"""Which way imports point: to lower rows; within a row only where it is listed, with the reason.

The rows of the design, the fifth of them at the end, some divided: what is in the lower half of a
row knows nothing of the upper.
"""

import ast
from pathlib import Path

import pytest

import plr_edge

PACKAGE = Path(plr_edge.__file__).parent
ROWS = (
    {"assets", "errors"},
    {
        "admission", "boards", "classifiers", "codec", "config", "correlated_noise", "cosine_rows",
        "files", "gate", "memory", "metrics", "mlp", "onnx_check", "plot_labels", "preprocessing",
        "schedule", "signing", "tensors", "working_set",
    },
    {"bundle", "bundle_check", "bundle_write", "derived_cache", "level_features", "report"},
    {
        "backbones", "engines", "gaussian_generator", "generative", "generator", "governor",
        "learner", "meters", "store", "stream",
    },
    {"export", "measuring", "planning", "runtime", "verify"},
    {"cost_model", "doctor", "footprint", "plan_trials", "profiling", "tracing"},
    {"profile_page", "recommend"},
    {"bench", "serve"},
    {"__init__", "__main__", "cli"},
)  # fmt: skip
WITHIN = {
    ("bundle", "bundle_check"): "limits and digests of a manifest have a file of their own",
    ("bundle_check", "bundle"): "the type of what is checked",
    ("bundle_write", "bundle"): "what is written is what is read",
    ("bundle_write", "bundle_check"): "digests",
    ("generative", "gaussian_generator"): "one of the generators it rehearses from",
    ("generative", "generator"): "another",
    ("level_features", "derived_cache"): "the cache that it looks after",
    ("profiling", "footprint"): "memory of processes has a file of its own",
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
