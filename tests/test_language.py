"""Texts read as sentences: help of the command line, docstrings, messages and pages."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from benchmarks.cli import command as benchmarks
from plr_edge.cli import _COMMANDS, cli

ROOT = Path(__file__).parents[1]
ROOMS = ("README.md", "deploy", "docs", "plr_edge")  # files and folders that are checked
SUFFIXES = (
    ".py",
    ".md",
    ".html",
    ".sh",
    ".toml",
    ".yaml",
    ".service",
    ".env",
    ".rules",
    ".jp6",
    ".jp7",
)
NOT_YET = (  # still to be rewritten: delete a line when its texts are plain
    "plr_edge/backbones/", "plr_edge/boards/", "plr_edge/bundle/", "plr_edge/classifiers/",
    "plr_edge/doctor/", "plr_edge/engines/", "plr_edge/export/", "plr_edge/generative/",
    "plr_edge/meters/", "plr_edge/errors.py", "plr_edge/files.py", "plr_edge/tensors.py",
    "plr_edge/robot/protocol.py",
)  # fmt: skip
PHRASES = (
    r"let(s|ting)? go\b", r"set(s|ting)? aside", r"vouch(es|ed)?", r"(?<![.\w])mend(s|ed|ing)?",
    r"(?<!there )(?<!where )(is|are|was|were) no (?!longer|more|less|way|need)",
    r"(?<!there )(?<!where )(is|are) (?-i:none)", r"(is|are) like that", r"where it has several",
    r"nobody said", r"said", r"told", r"anew", r"shall", r"asks? the machine", r"stands? in for",
)  # fmt: skip
DIALECT = re.compile("|".join(rf"(?:\b|(?<=[ `])){p}\b" for p in PHRASES), re.IGNORECASE)
FRAGMENT = re.compile(r"^ +\w+: (of|that|such|likewise|which|whose|for which|to which)\b")
TAIL = re.compile(r"^(Of|Such|That|Which|To which|From which|For which|Where it|Likewise|As)\b")


def options():
    """Return (command, option) for every option of the command line and of the benchmarks."""
    commands = [
        group.get_command(click.Context(group), name)
        for group in (cli, benchmarks)
        for name in group.list_commands(click.Context(group))
    ]
    return [(c, p) for c in commands for p in c.params if isinstance(p, click.Option)]


def is_sentence(text: str | None) -> bool:
    return bool(text) and (text[0].isupper() or text[0] in "`-") and text.endswith(".")


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_a_command_starts_with_a_short_sentence(name):
    command = cli.get_command(click.Context(cli), name)
    first = command.help.split("\n\n")[0].replace("\n", " ")
    assert is_sentence(first) and not TAIL.match(first), first
    short = command.get_short_help_str(60)
    assert not short.endswith("..."), f"{short!r} is cut in `plr-edge --help`; shorten it"


@pytest.mark.parametrize(("command", "option"), options(), ids=lambda x: x.name)
def test_help_of_an_option_is_a_sentence_that_stands_alone(command, option):
    text = re.sub(r" +\[default: .*\]$", "", option.help or "")
    assert is_sentence(text) and not TAIL.match(text), text


def test_a_tail_of_a_sentence_is_found():
    assert TAIL.match("Of everything random.") and not TAIL.match("Offset in bytes.")
    assert not is_sentence("of a frame") and is_sentence("Random seed.")


def checked_files() -> list[Path]:
    """Return the files of `ROOMS`, without those of `NOT_YET`."""
    found: list[Path] = []
    for room in ROOMS:
        path = ROOT / room
        assert path.exists(), room
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
        found += [f for f in files if f.suffix in SUFFIXES]
    return [f for f in found if not str(f.relative_to(ROOT)).startswith(NOT_YET)]


@pytest.mark.parametrize("file", checked_files(), ids=lambda f: str(f.relative_to(ROOT)))
def test_texts_are_in_plain_words(file):
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if DIALECT.search(line) or (file.suffix == ".py" and FRAGMENT.search(line))
    ]
    assert found == []


@pytest.mark.parametrize("text", ["its rows were set aside", "it is no bundle", "said", "Mended"])
def test_dialect_is_found(text):
    assert DIALECT.search(text)


@pytest.mark.parametrize(
    "text",
    ["there is no bundle", "it is no longer there", "there is none", "recommended", "x.mend"],
)
def test_plain_english_is_not_dialect(text):
    assert not DIALECT.search(text)
