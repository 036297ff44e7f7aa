"""The pages of deploy/: their commands are taken by the command line, what they name exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from plr_edge.boards import boards
from plr_edge.cli import cli

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = [DEPLOY / "README.md", DEPLOY / "ros2" / "README.md"]
CALL = re.compile(
    r"(?:\$ |&& )(?:sudo )?(?:-u \S+ )?(?:env \S+ )?plr-edge ([a-z].*?)(?: *#.*| && .*)?$"
)


def calls_of(page):
    """Return the commands of its consoles."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return [m[1] for line in "".join(blocks).splitlines() for m in [CALL.search(line)] if m]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_commands_are_taken_by_the_command_line(page):
    calls = calls_of(page)
    assert len(calls) >= {"deploy": 8, "ros2": 1}[page.parent.name]
    for call in calls:
        name, *arguments = shlex.split(call)
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        command.make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_and_files_exist(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"(?<!tests/)deploy/[\w./-]+\w", page.read_text()):
        assert (DEPLOY.parent / name).exists(), name


def test_every_file_and_board_is_named():
    text = PAGES[0].read_text()
    for file in DEPLOY.iterdir():
        assert file.name == "README.md" or f"`{file.name}" in text, file.name
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (\d*)", text, re.MULTILINE))
    for board in boards():
        power_w = board.budget.power_w
        assert rows[board.name] == ("" if power_w is None else f"{power_w:g}"), board.name


def test_options_of_the_installer_that_are_named_exist():
    script = (DEPLOY / "install.sh").read_text()
    for line in re.findall(r"deploy/install\.sh(.*)$", PAGES[0].read_text(), re.MULTILINE):
        for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
            assert f"        {option}" in script or f" {option} " in script, option
