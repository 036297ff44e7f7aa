"""The examples of docs/python.md run as they stand, and every public name is on the page."""

import doctest
import re

import pytest

import plr_edge
from tests.docs.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "python.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(test):
    printed = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
    assert results.failed == 0, "".join(printed)
    assert results.attempted > 0


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks_of(PAGE, "pycon"))
    run(doctest.DocTestParser().get_doctest(text, {}, "python.md", str(PAGE), 0))


def test_every_public_name_exists_and_stands_on_the_page():
    text = PAGE.read_text()
    for name in set(plr_edge.__all__) - {"AdaptConfig"}:  # deprecated
        assert getattr(plr_edge, name)
        assert re.search(rf"\b{name}\b", text), name
