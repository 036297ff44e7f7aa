"""The examples of docs/python.md, and those in docstrings, run as they stand."""

import doctest
import importlib

import pytest

from tests.docs.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "python.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "plr_edge").rglob("*.py"))
    if ">>> " in file.read_text()
]


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


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        if test.examples:
            run(test)
