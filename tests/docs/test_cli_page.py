"""docs/cli.md is what its script writes, and names every command."""

import importlib.util

from plr_edge.cli import _COMMANDS
from tests.docs.pages import ROOT

SCRIPT = ROOT / "docs" / "make" / "cli_page.py"


def test_the_page_is_current():
    spec = importlib.util.spec_from_file_location("cli_page", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    current = script.PAGE.read_text() == script.page()
    assert current, "run `python docs/make/cli_page.py`"


def test_every_command_stands_in_the_page():
    page = (ROOT / "docs" / "cli.md").read_text()
    for command in _COMMANDS:
        assert f"plr-edge {command}" in page, command
