"""One word, one meaning: the latent memory and the trainer's limit, and their old names."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from plr_edge.cli import _COMMANDS, cli

START = {
    "adapt": ("bundle", "stream", "--state", "s"),
    "run": ("bundle", "none", "--state", "s"),
    "plan": ("bundle",),
}


def parsed(name: str, *arguments: str) -> dict:
    command = cli.get_command(click.Context(cli), name)
    return command.make_context(name, [*START[name], *arguments]).params


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("adapt", "--memory", "--latent-memory"),
        ("run", "--memory", "--memory-limit"),
        ("run", "--latents", "--latent-memory"),
        ("plan", "--memory", "--memory-limit"),
    ],
)
def test_an_old_name_still_works_and_warns_on_stderr(name, old, new, capsys):
    parameter = new.removeprefix("--").replace("-", "_")
    for arguments in ((old, "600MB"), (f"{old}=600MB",)):
        assert parsed(name, *arguments)[parameter] == "600MB"
        captured = capsys.readouterr()
        assert captured.err == f"{old} is now called {new}; the old name will be removed\n"
        assert captured.out == ""
    assert parsed(name, new, "600MB")[parameter] == "600MB"
    assert capsys.readouterr().err == ""


def test_the_benchmarks_call_it_the_same_and_take_the_old_name_with_a_warning():
    from benchmarks.cli import command as benchmarks

    for option in ("--latent-memory", "--memory"):
        result = CliRunner().invoke(benchmarks, ["fleet", option, "much"])
        assert result.exit_code == 2 and "size is 'much'" in result.output
        assert ("--memory is now called --latent-memory" in result.output) == (option == "--memory")


def test_an_old_name_of_another_command_is_unknown():
    with pytest.raises(click.NoSuchOption):
        parsed("adapt", "--latents", "8MB")


def test_what_follows_a_double_dash_is_not_an_option():
    assert parsed("plan", "--deadline", "9ms")["memory_limit"] is None
    command = cli.get_command(click.Context(cli), "adapt")
    context = command.make_context("adapt", ["--state", "s", "--", "bundle", "--memory"])
    assert context.params["stream"] == "--memory"


def test_every_command_means_the_same_by_the_same_option(plr_edge, tmp_path):
    helps: dict[str, set[str]] = {}
    for name in _COMMANDS:
        for option in cli.get_command(click.Context(cli), name).params:
            if option.name in ("latent_memory", "memory_limit", "memory", "latents"):
                helps.setdefault(option.name, set()).add(option.help)
    assert set(helps) == {"latent_memory", "memory_limit"}
    assert all(len(texts) == 1 for texts in helps.values())


def test_values_reach_what_they_limit(plr_edge, bundle_path, tmp_path):
    state = ("--state", str(tmp_path / "s"))
    for option in ("--latent-memory", "--memory-limit"):
        result = plr_edge("run", str(bundle_path), "none", *state, option, "much")
        assert result.exit_code == 2 and "size is 'much'" in result.output
        result = plr_edge("plan", str(bundle_path), option, "much")
        assert result.exit_code == 2 and "size is 'much'" in result.output
    result = plr_edge("adapt", str(bundle_path), "demo", *state, "--latent-memory", "100B")
    assert result.exit_code == 2 and "cannot hold a latent" in result.output
