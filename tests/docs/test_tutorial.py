"""The tutorial, typed as it stands: every command in order, each output like the one shown."""

from pathlib import Path

import pytest

from tests.docs.consoles import Terminal, commands_of, same_shape

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_every_command_works_and_prints_what_is_shown(tmp_path):
    pytest.importorskip("fastapi")
    terminal = Terminal(tmp_path)
    try:
        for command in commands_of(PAGE):
            printed = terminal.run(command)
            shown = "\n".join(command.output)
            assert same_shape(command.output or ["..."], printed), (
                f"$ {command.text}\n{printed}\nthe page shows:\n{shown}"
            )
    finally:
        terminal.close()


def test_shapes():
    assert same_shape(["20 taught, 1.5e-05 s"], "7 taught,  0.3 s\n")
    assert same_shape(["...", "version  3", "..."], "a\n\nb\nversion 12\n")
    assert same_shape(["at http://...:8077/; x"], "at http://localhost:1/; x")
    assert not same_shape(["20 taught"], "none taught")
    assert not same_shape(["20 taught"], "20 taught\n1 quarantined")
