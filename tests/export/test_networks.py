"""Networks of six kinds come in without a line written for them, and adapt on the board."""

import json

import numpy as np
import onnx
import pytest
import small_networks
import torch
from click.testing import CliRunner
from own_networks import images, is_one_line

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.export.adaptive import adaptive_blocks

KINDS = {  # shape of the input, what a latent is, names of cuts that must be offered
    "residual": ("3,64,64", "CHW", ["layer1.1", "layer2.0", "layer2.1"]),
    "mobile": ("3,64,64", "CHW", ["features.1", "features.3", "features.4"]),
    "dense": ("3,64,64", "CHW", ["block1.1", "transition.2", "block2.0"]),
    "tokens": ("3,64,64", "ND", ["blocks.0", "blocks.2", "blocks.3"]),
    "channels_last": ("3,64,64", "HWC", ["stages.1", "stages.3"]),
    "sequence": ("6,64", "CT", ["conv2", "conv3"]),
}
LAST = {"residual": "fc", "mobile": "classifier.2", "dense": "fc", "tokens": "head",
        "channels_last": "head", "sequence": "fc"}  # fmt: skip


def call(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def exported(kind, folder, *more):
    result = call("export", "--backbone", f"small_networks:{kind}", "--input-shape", KINDS[kind][0],
                  "--range", "-1..1", "-o", folder, *more)  # fmt: skip
    assert result.exit_code == 0, result.output
    return result, open_bundle(folder)


def feature_of(kind, x):
    """Return what the classifier of a network takes, as torch computes it."""
    network = getattr(small_networks, kind)().eval()
    found = []
    network.get_submodule(LAST[kind]).register_forward_pre_hook(lambda m, a: found.append(a[0]))
    with torch.no_grad():
        network(torch.from_numpy(x))
    return found[0].numpy()


def run_parts(bundle, x):
    latents = OnnxEngine(bundle.read("frozen.onnx")).run(x)[0]
    return OnnxEngine(bundle.read("adaptive.onnx")).run(latents)[0]


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / request.param
    result, bundle = exported(request.param, folder)
    return request.param, result, bundle


def test_a_network_is_divided_and_returns_the_same_for_any_batch(made):
    kind, result, bundle = made
    assert LAST[kind] in result.output and "is left out" in result.output
    assert bundle.latent_axes == KINDS[kind][1]
    x = bundle.preprocessing(images(12))
    x = np.concatenate([x, x[:4]])
    want = feature_of(kind, x)
    for n in (1, 3, 16):
        np.testing.assert_allclose(run_parts(bundle, x[:n]), want[:n], rtol=1e-3, atol=1e-4)


def test_every_weight_above_the_cut_keeps_its_name_and_can_be_trained(made):
    kind, _, bundle = made
    blocks = adaptive_blocks(bundle)
    network = getattr(small_networks, kind)()
    own = {name for name, _ in network.named_parameters()}
    x = bundle.preprocessing(images(4))
    latents = OnnxEngine(bundle.read("frozen.onnx")).run(x)[0]
    blocks(torch.from_numpy(latents)).square().sum().backward()
    weights = dict(blocks.named_parameters())
    assert weights and all(weight.grad is not None for weight in weights.values())
    assert sum(bool(w.grad.abs().sum() > 0) for w in weights.values()) > len(weights) / 2
    folded = {name for name in blocks.state_dict() if name not in own}  # biases of folded norms
    assert all(name.endswith("bias") for name in folded)


def test_it_learns_on_the_board_and_answers(made, tmp_path, monkeypatch):
    _, _, bundle = made
    monkeypatch.chdir(tmp_path)
    result = call("adapt", bundle.path, "demo", "--state", "s", "--limit-per-class", 3, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["n_taught"] == 36 and sum(report["steps_per_level"]) > 0
    result = call("predict", bundle.path, "demo", "--state", "s", "--split", "test",
                  "--limit-per-class", 1)  # fmt: skip
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 12


def test_cuts_are_called_as_the_modules_and_say_what_they_cost(made):
    kind, _, _ = made
    result = call("export", "--backbone", f"small_networks:{kind}", "--input-shape", KINDS[kind][0],
                  "--range", "-1..1", "--list-cuts", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    cuts = {cut["name"]: cut for cut in json.loads(result.stdout)}
    assert set(KINDS[kind][2]) <= set(cuts)
    shares = [cut["frozen_share"] for cut in cuts.values()]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert all(cut["train_macs"] > 0 for name, cut in cuts.items() if name != "classifier")


@pytest.mark.parametrize(("kind", "precision"), [("tokens", "fp16"), ("channels_last", "fp16"),
                         ("mobile", "int8"), ("dense", "int8"), ("sequence", "fp16")])  # fmt: skip
def test_a_frozen_part_takes_any_precision(kind, precision, tmp_path):
    _, bundle = exported(kind, tmp_path / "b", "--precision", precision)
    graph = onnx.load_from_string(bundle.read("frozen.onnx")).graph
    kinds = {tensor.data_type for tensor in graph.initializer}
    assert (onnx.TensorProto.INT8 if precision == "int8" else onnx.TensorProto.FLOAT16) in kinds


def test_every_offered_cut_can_be_exported(tmp_path):
    for cut in ("layer1.0", "layer2.1", "classifier"):
        _, bundle = exported("residual", tmp_path / cut, "--cut", cut)
        x = bundle.preprocessing(images(2))
        want = feature_of("residual", x)
        np.testing.assert_allclose(run_parts(bundle, x), want, rtol=1e-3, atol=1e-4)


def test_the_feature_can_be_another_module_and_what_is_unknown_is_named(tmp_path):
    _, bundle = exported("residual", tmp_path / "b", "--feature", "layer2.0")
    assert bundle.feature_width == 32
    result = call("export", "--backbone", "small_networks:residual", "--input-shape", "3,64,64",
                  "--feature", "layer2.7", "-o", tmp_path / "c")  # fmt: skip
    is_one_line(result, "did you mean 'layer2")


def weights_file(kind, file):
    torch.manual_seed(11)
    network = type(getattr(small_networks, kind)())()
    if file.suffix == ".pth":
        torch.save({"state_dict": network.state_dict()}, file)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), file)
    return network.eval()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights_come_under_the_names_of_the_network(name, tmp_path):
    network = weights_file("residual", tmp_path / name)
    _, bundle = exported("residual", tmp_path / "b", "--weights", tmp_path / name)
    x = bundle.preprocessing(images(3))
    with torch.no_grad():
        got = torch.from_numpy(run_parts(bundle, x))
        np.testing.assert_allclose(
            network.fc(got).numpy(), network(torch.from_numpy(x)).numpy(), rtol=1e-3, atol=1e-4
        )


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": Evil()}, "more than tensors"),
        ([1, 2], "does not hold a state_dict"),
        ({"fc.weight": torch.zeros(3, 3)}, "does not fit"),
    ],
)
def test_a_weights_file_that_does_not_fit_is_one_line(content, says, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    result = call("export", "--backbone", "small_networks:residual", "--input-shape", "3,64,64",
                  "--weights", tmp_path / "w.pth", "-o", tmp_path / "b")  # fmt: skip
    is_one_line(result, says)
    assert "executed" not in result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--input-shape", "3,64"], "Conv2d|shape"),
        (["--input-shape", "3,x,64"], "--input-shape is '3,x,64'"),
        (["--mean", "1,2"], "--mean is '1,2'"),
        (["--range", "1..0"], "its first number must be the lower"),
        (["--layout", "nhwc"], "--layout is for .onnx files"),
        (["--pretrained"], "--pretrained is for torchvision and timm"),
        (["--input-size", "64", "--input-shape", "3,64,64"], "exclude each other"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(options, says, tmp_path):
    result = call("export", "--backbone", "small_networks:residual", *options, "-o", tmp_path / "b")
    is_one_line(result, says.split("|")[-1])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_a_library_that_is_missing_is_named_with_its_extra(name, monkeypatch):
    library = name.split(":")[0]
    monkeypatch.setattr("plr_edge.errors._is_missing", lambda module: module == library)
    is_one_line(call("export", "--backbone", name, "--list-cuts"), f"'plr-edge[{library}]'")
