"""The README is short, and what it shows is what happens."""

import re

from tests.docs.consoles import commands_of
from tests.docs.pages import ROOT, blocks_of

PAGE = ROOT / "README.md"
README = PAGE.read_text()
TUTORIAL = ROOT / "docs" / "tutorial.md"


def test_it_fits_a_reader_and_a_terminal():
    lines = README.splitlines()
    assert len(lines) <= 110
    assert [line for line in lines if len(line) > 120] == []


def test_the_python_example_runs_and_is_right(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks_of(PAGE, "python")
    assert len(example.splitlines()) <= 10
    exec(compile(example, "README.md", "exec"), {})
    prequential, *lines = capsys.readouterr().out.splitlines()
    assert 0.5 < float(prequential) <= 1.0
    pairs = [line.split() for line in lines]
    assert len(pairs) == 216
    assert sum(a == b for a, b in pairs) / len(pairs) >= 0.95


def test_outputs_are_those_of_the_tutorial_which_a_test_types():
    typed = {command.text: command.output for command in commands_of(TUTORIAL)}
    shown = [command for command in commands_of(PAGE) if command.output]
    assert len(shown) == 3
    for command in shown:
        assert command.output == typed[command.text]


def test_extras_that_are_installed_exist():
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    texts = [file.read_text() for file in (PAGE, TUTORIAL)]
    named = [name for text in texts for found in re.findall(r"'\.\[([\w,]+)\]'", text)
             for name in found.split(",")]  # fmt: skip
    assert set(named) <= extras and named


def test_the_table_has_five_figures_with_their_commands():
    """That a benchmark fills it, tests/benchmarks/test_figures.py says."""
    rows = re.findall(r"^\| (.+?) \| (.*\d.*) \| `(.+?)` \|$", README, re.MULTILINE)
    assert len(rows) == 5
