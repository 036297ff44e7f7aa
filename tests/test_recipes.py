"""What lies in export/ and deploy/ works with the command line as it is."""

import re
import subprocess
from pathlib import Path

import pytest

from plr_edge.backbones import load_backbone
from plr_edge.cli import _COMMANDS
from plr_edge.errors import ConfigError
from plr_edge.export.recipe import read_recipe
from plr_edge.export.split import legal_cuts

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "export").glob("*.toml"))
SCRIPTS = sorted([*(ROOT / "export").glob("*.sh"), *(ROOT / "deploy").glob("*.sh")])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_recipes_name_a_backbone_and_a_legal_cut(recipe):
    wanted = read_recipe(recipe)
    network = load_backbone(wanted.backbone, input_size=wanted.input_size)
    assert wanted.cut in legal_cuts(network)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_scripts_are_valid_shell(script):
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_commands_that_they_call_exist(file):
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    invoked = r"(?:^ *|sudo |bin/)plr-edge\"? ([a-z][a-z-]*) "
    called = re.findall(invoked, "\n".join(lines), re.MULTILINE)
    assert called and set(called) <= set(_COMMANDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [("cut = [1", "TOML"), ("colour = 3", "backbone"), ("input_size = 'x'", "recipe")],
)
def test_what_is_no_recipe_is_refused(text, words, tmp_path):
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_recipe(file)
    with pytest.raises(ConfigError, match="cannot read"):
        read_recipe(tmp_path / "none.toml")


def test_an_option_overrides_the_recipe(tmp_path, plr_edge):
    recipe = str(ROOT / "export" / "mobilenet_v2-lean.toml")
    result = plr_edge(
        "export", "--recipe", recipe, "--cut", "classifier", "-o", str(tmp_path / "b")
    )
    assert result.exit_code == 0, result.output
    assert "cut before classifier, fp32, latent (1280,)" in result.output
