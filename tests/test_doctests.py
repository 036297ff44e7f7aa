"""The examples in the docstrings run and print what they claim."""

import doctest
import importlib
from pathlib import Path

import pytest

import plr_edge

PACKAGE = Path(plr_edge.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in PACKAGE.rglob("*.py")
    if ">>> " in file.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


def test_examples_are_found():
    assert "plr_edge.classifiers.ridge" in WITH_EXAMPLES
