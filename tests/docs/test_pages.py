"""What the documentation names exists: files, anchors, commands, options, figures."""

import re
import shlex

import click
import pytest

from benchmarks import pages
from benchmarks.cli import command as bench_command
from benchmarks.suites import SUITES
from plr_edge.cli import _COMMANDS, cli
from tests.docs.pages import PAGES, ROOT, anchors_of, blocks_of, links_of, name_of, prose_of

TEXT = "\n".join(file.read_text() for file in PAGES if file.name != "CHANGELOG.md")
BENCHES = [
    bench_command.get_command(click.Context(bench_command), name)
    for name in bench_command.list_commands(click.Context(bench_command))
]
CALL = re.compile(r"\$ (?:sudo )?(?:-u \S+ )?(?:env \S+ )?(?:\S+/)?plr-edge (.*)$", re.MULTILINE)
# options of other programs, and those that every command has
OTHERS = {
    "--back", "--cpu-torch", "--help", "--index-url", "--now", "--once", "--packages-select",
    "--predict-only", "--runtime", "--system-site-packages", "--uninstall", "--version",
}  # fmt: skip


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_and_option_has_help(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_options_and_protocols_that_are_named_exist():
    known = {
        option
        for name in _COMMANDS
        for command in [*_with_subcommands(cli.get_command(click.Context(cli), name)), *BENCHES]
        for parameter in command.params
        for option in parameter.opts
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", TEXT)) <= known | OTHERS
    benches = set(re.findall(r"python -m benchmarks ([a-z0-9-]+)", TEXT))
    assert benches <= {command.name for command in BENCHES}


def _with_subcommands(command):
    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    return [command.get_command(context, name) for name in command.list_commands(context)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_consoles_are_taken_by_the_command_line(page):
    for call in CALL.findall("\n".join(blocks_of(page, "console"))):
        words = shlex.split(call, comments=True)
        end = next((i for i, word in enumerate(words) if word in ("|", "&&", ">")), len(words))
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, words[0]
        command.make_context(words[0], words[1:end])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_exist_and_have_the_options_named_with_them(page):
    for code in re.findall(r"`plr-edge ([a-z][^`]*)`", page.read_text()):
        name, *words = code.split()
        if page.name == "CHANGELOG.md" and name in ("bench", "|"):
            continue  # moved since
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, code
        options = {option for parameter in command.params for option in parameter.opts}
        if page.name != "CHANGELOG.md":  # which says what an option was called
            assert {word for word in words if word.startswith("--")} <= options | {"--help"}, code


@pytest.mark.parametrize("name", ["streams", "generated"])
def test_rows_of_the_results_are_methods(name):
    part = pages.parts(ROOT / "benchmarks" / "results.md")[name]
    first = part[part.index("### ") :].split("### ")[1]
    rows = re.findall(r"^\| (?:\* )?([^|]+?)(?: \(\d seeds?\))? \|", first, flags=re.MULTILINE)
    variants = {row for row in rows if row.endswith(", no fast")}
    assert set(rows) - {"method", "---"} - variants == set(SUITES[name].methods)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_anchors_that_exist(page):
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


FOLDERS = ("plr_edge", "benchmarks", "tests", "export", "deploy", "docs")
FILES = [name_of(file) for folder in FOLDERS for file in (ROOT / folder).rglob("*.*")]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=name_of)
def test_source_files_that_are_named_exist(page):
    for code in re.findall(r"`([^`\n]+)`", prose_of(page)):
        for name in re.findall(r"(?<![\w*-])[\w/-]*[a-z]\.(?:py|sh|service|rules|c)\b(?!\.)", code):
            known = any(f"/{file}".endswith(f"/{name}") for file in FILES)
            assert known or "NAME" in name, name


def test_targets_of_make_that_are_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:\$ |`)make ([a-z]+)", TEXT))
    assert {"demo", "test", "docs"} <= named <= targets


def test_every_page_is_on_the_site():
    navigation = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert {name_of(page) for page in PAGES} == navigation


def test_every_picture_is_shown_and_small():
    shown = {(page.parent / target).resolve() for page in PAGES for target in links_of(page)}
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.resolve() in shown, picture.name
        assert picture.stat().st_size < 300_000, picture.name
