"""What lies above the cut of a user's network is trained, or it is said that it is not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from own_networks import BELOW, PLAIN, adapted, photos, sized
from safetensors.numpy import load_file

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli

FROZEN = {
    "one layer": "net[2].weight.requires_grad = False",
    "all, and folded": "net.requires_grad_(False)",
    "a block": "[p.requires_grad_(False) for p in net[2:4].parameters()]",
}


@pytest.mark.parametrize("form", FROZEN)
def test_what_lies_above_the_cut_is_trained_and_said_to_be(form, run, tmp_path, caplog):
    net = (
        "def make():\n"
        "    torch.manual_seed(1)\n"
        "    net = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), nn.ReLU(),\n"
        f"        *end())\n    {FROZEN[form]}\n    return net\n"
    )
    assert run(net, *sized("--cut", "block2")).exit_code == 0
    assert "requires_grad=False" in caplog.text
    summary = adapted(photos(tmp_path / "d"), "--train-ratio", "2")
    assert sum(summary["steps_per_level"]) > 0
    before = open_bundle("b").weights()
    [after] = [load_file(file) for file in sorted(tmp_path.glob("s/generations/*.adaptive.*"))][-1:]
    assert all(np.abs(before[name] - after[name]).max() > 0 for name in before)


NO_WEIGHTS = {
    "dropout and pool": ("conv(3, 8), nn.ReLU(), conv(8, 8), nn.Dropout(0.5), *end()", "block2"),
    "a map at the end": ("conv(3, 8), conv(8, 8), *[nn.ReLU() for _ in range(6)]", "block1"),
    "weights in the first block alone": ("conv(3, 8), nn.ReLU(), nn.MaxPool2d(2)", "classifier"),
    "one block": ("nn.Sequential(conv(3, 8), *end())", "classifier"),
}


@pytest.mark.parametrize("form", NO_WEIGHTS)
def test_the_default_cut_has_something_to_train(form, run, tmp_path):
    code, cut = NO_WEIGHTS[form]
    net = f"def make():\n    torch.manual_seed(1)\n    return nn.Sequential({code})\n"
    listed = run(net, *sized("--list-cuts", "--json"))
    names = [one["name"] for one in json.loads(listed.stdout)]
    assert names[-1] == "classifier"
    assert names[-2:-1] == ([] if cut == "classifier" else [cut])
    assert run(net, *sized()).exit_code == 0
    assert open_bundle("b").manifest["cut"] == cut


def test_the_classifier_alone_learns_and_says_that_it_is_alone(run, tmp_path, caplog):
    net = f"def make(): return nn.Sequential({BELOW}, conv(8, 8), nn.ReLU(), *end())\n"
    folder = photos(tmp_path / "d")
    for cut in ("classifier", "block3"):
        caplog.clear()
        assert run(net, *sized("--cut", cut, "--force")).exit_code == 0
        assert "the classifier alone will be trained" in caplog.text
        caplog.clear()
        summary = adapted(folder, "--state", f"s_{cut}", "--train-ratio", "2")
        assert summary["steps_per_level"][-1] > 0
        assert "the classifier alone is trained" in caplog.text
        predicted = CliRunner().invoke(cli, ["predict", "b", str(folder), "--state", f"s_{cut}"])
        assert predicted.exit_code == 0, predicted.output


def test_code_that_has_changed_since_the_export_changes_nothing(run, tmp_path):
    assert run(PLAIN, *sized("--cut", "block2")).exit_code == 0
    weights = open_bundle("b").weights()
    run(PLAIN.replace("conv(8, 8)", "conv(8, 12)"), *sized("--list-cuts"))
    assert adapted(photos(tmp_path / "d"), "--train-ratio", "2")["n_taught"] > 0
    after = load_file(sorted(tmp_path.glob("s/generations/*.adaptive.*"))[-1])
    assert {n: a.shape for n, a in after.items()} == {n: a.shape for n, a in weights.items()}
