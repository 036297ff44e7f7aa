"""docs/architecture.md says what tests/test_layering.py and the code say."""

import re

import pytest

from tests.docs.pages import ROOT
from tests.test_layering import ROWS
from tests.test_packaging import ONLY_IN

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = ROOT / "plr_edge"


def test_every_room_stands_in_its_row():
    found = re.findall(r"^\| (\d+) \| `(\w+)` \| .+ \|$", PAGE, re.MULTILINE)
    drawn = {(int(row), room) for row, room in found}
    rooms = {(n + 1, room) for n, row in enumerate(ROWS) for room in row}
    assert drawn == rooms - {(len(ROWS), "__init__"), (len(ROWS), "__main__")}
    assert len(found) == len(drawn)
    assert [row for row, _ in found] == sorted((row for row, _ in found), key=int, reverse=True)


def test_heavy_libraries_are_where_the_page_says():
    table = PAGE[PAGE.index("| library | only in |") :]
    table = table[: table.index("\n\n")]
    drawn = {}
    for libraries, places in re.findall(r"^\| ([\w, ]+) \| (`.+) \|$", table, re.MULTILINE):
        for library in libraries.split(", "):
            drawn[library] = set(re.findall(r"`(.+?)`", places))
    for library, places in ONLY_IN.items():
        assert set(places) <= drawn[library], library


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)+[a-z_]+\.\w+)`", PAGE))))
def test_files_that_are_named_exist(name):
    assert any((folder / name).exists() for folder in (PACKAGE, ROOT, ROOT / "tests"))


@pytest.mark.parametrize(
    ("name", "file"), re.findall(r"`(_?[A-Z]{3,}|\w+)` in `(plr_edge/[\w/]+\.py)`", PAGE)
)
def test_registries_are_where_the_page_says(name, file):
    assert re.search(rf"^(def )?{name}\b", (ROOT / file).read_text(), re.MULTILINE)
