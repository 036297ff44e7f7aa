"""Networks of users, through the command line: what comes out is the object that was given."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from plr_edge.backbones import load_backbone
from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import ConfigError
from plr_edge.export.bundle_export import export_bundle
from plr_edge.export.split import default_cut, offered_cuts
from plr_edge.stream import open_stream

HEAD = """
from collections import OrderedDict, namedtuple
import torch
from torch import nn
from torch.nn import functional as F
from plr_edge.backbones import Backbone
from plr_edge.bundle.preprocessing import Preprocessing
torch.manual_seed(3)
class Do(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f
    def forward(self, x):
        return self.f(x)
def conv(i, o, s=2): return nn.Conv2d(i, o, 3, s, 1)
def end(): return nn.AdaptiveAvgPool2d(1), nn.Flatten()
"""
SIZE = 32


@pytest.fixture
def run(tmp_path, monkeypatch, request):
    """Write a network, and return a function that runs a command on it."""
    monkeypatch.chdir(tmp_path)
    name = f"usernet_{abs(hash(request.node.name))}"

    def call(code, *arguments):
        (tmp_path / f"{name}.py").write_text(HEAD + code)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return CliRunner().invoke(
            cli, ["export", "--backbone", f"{name}:make", "-o", "b", *map(str, arguments)]
        )

    def made():
        torch.manual_seed(3)  # as the module does before it makes the first one
        return sys.modules[name].make().eval()

    call.made = made
    call.name = f"{name}:make"
    yield call
    sys.modules.pop(name, None)
    sys.path[:] = [one for one in sys.path if one != str(tmp_path)]


def sized(*arguments):
    return ("--input-size", SIZE, *arguments)


def is_one_line(result, says):
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert says in errors[0], errors[0]
    assert "\x1b" not in result.output


def images(n=12):
    return [frame.image for frame in open_stream("demo", split="test", limit_per_class=1)][:n]


def smallest_cosine(folder, network):
    """Compare the features of a bundle with those of the network that the user gave."""
    bundle = open_bundle(folder)
    x = bundle.preprocessing(images())
    with torch.no_grad():
        want = network(torch.from_numpy(x)).numpy()
    latents = OnnxEngine(bundle.read("frozen.onnx")).run(x)[0]
    got = OnnxEngine(bundle.read("adaptive.onnx")).run(latents)[0]
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
    return float(((got * want).sum(1) / norms).min())


USED_TWICE = {
    "a pool and an activation inside blocks": (
        "def make():\n"
        "    torch.manual_seed(1); pool, act = nn.MaxPool2d(2), nn.Hardswish()\n"
        "    a = nn.Sequential(conv(3, 8), act, pool, conv(8, 8, 1), act)\n"
        "    return nn.Sequential(a, pool, conv(8, 16, 1), act, *end())\n",
        "2",
    ),
    "an activation before a BatchNorm": (
        "def make():\n"
        "    torch.manual_seed(1); act = nn.ReLU()\n"
        "    def bn(c):\n"
        "        b = nn.BatchNorm2d(c); nn.init.uniform_(b.running_mean); return b\n"
        "    a = nn.Sequential(act, conv(3, 8), act, bn(8), conv(8, 8), act)\n"
        "    return nn.Sequential(a, conv(8, 16), bn(16), act, *end())\n",
        "1",
    ),
    "one block on both sides of the cut": (
        "def make():\n"
        "    torch.manual_seed(1); b = nn.Sequential(conv(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())\n"
        "    return nn.Sequential(conv(3, 8), b, b, b, *end())\n",
        "2",
    ),
    "names that the export uses itself": (
        "def make():\n"
        "    torch.manual_seed(1)\n"
        "    return nn.Sequential(OrderedDict(a=conv(3, 8), pool=nn.MaxPool2d(2), act=nn.ReLU(),\n"
        "        b=conv(8, 8), classifier=nn.Sequential(*end(), nn.Linear(8, 5))))\n",
        "b",
    ),
}


@pytest.mark.parametrize("form", USED_TWICE)
def test_a_bundle_computes_what_the_object_of_the_user_computes(form, run):
    code, cut = USED_TWICE[form]
    result = run(code, *sized("--cut", f"block{cut}" if cut.isdigit() else cut))
    assert result.exit_code == 0, result.output
    assert smallest_cosine("b", run.made()) > 0.999999


ANOTHER_FORWARD = {
    "a forward of its own": (
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        x = self[0](x)\n"
        "        return self[3](self[2](self[1](x) + x))\n"
        "def make(): return Net(conv(3, 8), conv(8, 8, 1), *end())\n"
    ),
    "a hook on the whole": (
        "def make():\n"
        "    net = nn.Sequential(conv(3, 8), conv(8, 8), *end())\n"
        "    net.register_forward_pre_hook(lambda module, x: (x[0].flip(1),))\n"
        "    return net\n"
    ),
    "blocks of a Backbone with a forward of their own": (
        "class Blocks(nn.Sequential):\n"
        "    def forward(self, x): return super().forward(x.abs())\n"
        "def make(): return Backbone('x', Blocks(conv(3, 8), conv(8, 8), *end()),\n"
        "    Preprocessing(size=32, mean=(127.5,) * 3, std=(127.5,) * 3))\n"
    ),
    "BatchNorm registered elsewhere than it runs": (
        "class Odd(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.bn = conv(8, 8), nn.BatchNorm2d(8)\n"
        "        nn.init.uniform_(self.bn.running_mean, 1, 2)\n"
        "    def forward(self, x): return self.conv(self.bn(x))\n"
        "def make(): return nn.Sequential(conv(3, 8), Odd(), conv(8, 8), *end())\n"
    ),
}


@pytest.mark.parametrize("form", ANOTHER_FORWARD)
def test_a_network_that_its_blocks_do_not_make_is_refused(form, run, tmp_path):
    is_one_line(run(ANOTHER_FORWARD[form], *sized()), "do not match the network that was given")
    assert not (tmp_path / "b").exists()
    if "BatchNorm" in form:
        is_one_line(run(ANOTHER_FORWARD[form], *sized()), "block 'block1' runs its BatchNorm")


NOT_A_NETWORK = {
    "list": ("Do(lambda x: [x])", "returns a list"),
    "namedtuple": ("Do(lambda x: namedtuple('Out', 'a')(x))", "returns a Out"),
    "none": ("Do(lambda x: None)", "returns a NoneType"),
    "gru": ("nn.Flatten(2), nn.GRU(64, 8, batch_first=True)", "returns a tuple"),
    "indices": ("*end(), Do(lambda x: x.argmax(1, keepdim=True))", "returns int64"),
    "one image": ("Do(lambda x: x.reshape(1, -1))", "the first axis must be the batch"),
    "no batch": ("*end(), Do(lambda x: x.squeeze(0).mean(0))", "the first axis must be the batch"),
    "tokens": ("nn.Flatten(2), Do(lambda x: x.transpose(1, 2))", "averages the tokens"),
    "channels last": ("conv(8, 5, 1), Do(lambda x: x.permute(0, 2, 3, 1))", "looks like (H, W, C)"),
    "its own error": ("Do(lambda x: {}['missing'])", "block 'block1'"),
    "wrong width": ("*end(), nn.Linear(9, 4)", "block 'block3'"),
}


@pytest.mark.parametrize("form", NOT_A_NETWORK)
@pytest.mark.parametrize("list_cuts", [False, True])
def test_what_cannot_be_a_network_is_one_line(form, list_cuts, run):
    code, says = NOT_A_NETWORK[form]
    result = run(
        f"def make(): return nn.Sequential(conv(3, 8, 4), {code})\n",
        *sized(*["--list-cuts"] * list_cuts),
    )
    is_one_line(result, says)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def make(): return nn.Sequential(nn.Conv2d(1, 8, 3), *end())", "it takes 1 channels"),
        ("def make(): return nn.Sequential(conv(3, 8).double(), *end())", "block 'block0'"),
        ("def make(n): return nn.Sequential(conv(3, 8), *end())", "TypeError"),
        ("import sys\nsys.exit()\ndef make(): return 0", "SystemExit"),
        ("def make(): return nn.Sequential()", "at least one block"),
        (
            "def make(): return Backbone('x', nn.Sequential(conv(3, 8), *end()), Preprocessing("
            "size=32, mean=(1.0,) * 3, std=(1.0,) * 3), taps=(('layer3', 2),))",
            "tap ('layer3', 2)",
        ),
    ],
)
def test_what_is_no_network_for_images_says_so(code, says, run):
    is_one_line(run(code + "\n", *sized()), says)


BELOW = "conv(3, 8, 4), nn.ReLU()"
ABOVE = {
    "InstanceNorm with statistics": (
        "nn.InstanceNorm2d(8, track_running_stats=True)", "InstanceNorm2d that does not directly"
    ),
    "BatchNorm with an activation": (
        "conv(8, 8), type('BnAct', (nn.BatchNorm2d,), {})(8)", "BnAct that does not directly"
    ),
    "a table of indices": (
        "Do(lambda x: x), type('Table', (nn.Identity,), {'__init__': lambda s: ("
        "nn.Identity.__init__(s), s.register_buffer('index', torch.arange(3)))[0]})()",
        "index above it is int64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ABOVE)
def test_a_layer_that_cannot_be_trained_is_named_and_no_such_cut_is_offered(form, run):
    code, says = ABOVE[form]
    net = f"def make(): return nn.Sequential({BELOW}, {code}, conv(8, 8), *end(), nn.Linear(8, 4))"
    is_one_line(run(net + "\n", *sized("--cut", "block2")), says)
    backbone = load_backbone(run.name, input_size=SIZE)
    offered = offered_cuts(backbone)
    assert "block2" not in offered
    assert default_cut(backbone) in offered[:-1]  # there are layers with weights further up
    result = run(net + "\n", *sized())
    assert result.exit_code == 0, result.output
    assert smallest_cosine("b", run.made()) > 0.999999


TIED = (
    "class Tied(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.a, self.b = conv(8, 8, 1), conv(8, 8, 1)\n"
    "        self.b.weight = self.a.weight\n"
    "    def forward(self, x): return self.b(self.a(x).relu())\n"
    "def make(): return nn.Sequential(conv(3, 8), conv(8, 8), Tied(), *end())\n"
)


def test_one_weight_under_two_names_is_named_above_the_cut_and_exact_below_it(run, tmp_path):
    is_one_line(run(TIED, *sized("--cut", "block1")), "block2.a.weight and block2.b.weight")
    assert run(TIED, *sized()).exit_code == 0
    assert smallest_cosine("b", run.made()) > 0.999999
    from safetensors.numpy import save_file

    tensors = load_backbone(run.name, input_size=SIZE).blocks.state_dict()
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    arrays["block2.a.weight"] += 1
    save_file(arrays, tmp_path / "w.safetensors")
    result = run(TIED, *sized("--weights", tmp_path / "w.safetensors", "--list-cuts"))
    is_one_line(result, "is used under another name too")


@pytest.mark.parametrize("layer", ["nn.GroupNorm(2, 8)", "nn.PReLU(8)", "nn.LayerNorm([8, 8, 8])"])
def test_a_weight_that_the_exporter_rewrites_is_named_with_its_layer(layer, run):
    net = f"def make(): return nn.Sequential({BELOW}, conv(8, 8, 1), {layer}, *end())\n"
    result = run(net, *sized("--cut", "block2"))
    if result.exit_code:  # some releases of the exporter keep it
        is_one_line(result, layer[3:].split("(")[0])
        assert "nn.Conv2d" not in result.output
    else:
        assert smallest_cosine("b", run.made()) > 0.999999


def test_layers_over_channels_last_export_with_a_free_batch_axis(run):
    net = (
        "def make(): return nn.Sequential(conv(3, 8), Do(lambda x: x.permute(0, 2, 3, 1)),\n"
        "    nn.LayerNorm(8), Do(lambda x: x.permute(0, 3, 1, 2)), conv(8, 8), conv(8, 8),\n"
        "    *end())\n"
    )
    assert run(net, *sized("--cut", "block5")).exit_code == 0
    assert smallest_cosine("b", run.made()) > 0.999999


NOT_REACHED = {
    "no_grad": "Do(lambda x: x), NoGrad()",
    "detach": "conv(8, 8), Do(lambda x: x.detach())",
    "not used": "Spare()",
}


@pytest.mark.parametrize("form", NOT_REACHED)
def test_weights_that_training_cannot_reach_are_refused(form, run):
    net = (
        "class NoGrad(nn.Module):\n"
        "    def __init__(self): super().__init__(); self.inner = conv(8, 8)\n"
        "    def forward(self, x):\n"
        "        with torch.no_grad(): return self.inner(x)\n"
        "class Spare(nn.Module):\n"
        "    def __init__(self): super().__init__(); self.a, self.b = conv(8, 8), conv(8, 8)\n"
        "    def forward(self, x): return self.a(x)\n"
        f"def make(): return nn.Sequential({BELOW}, {NOT_REACHED[form]}, *end())\n"
    )
    is_one_line(run(net, *sized("--cut", "block2")), "training cannot reach")


def photos(folder, labels=("apple_20", "cherry_1", "tomato_1"), n=12):
    for frame in open_stream("demo", limit_per_class=n):
        if frame.label in labels:
            (folder / frame.label).mkdir(parents=True, exist_ok=True)
            name = f"{frame.index:05d}.png"
            Image.fromarray(frame.image).save(folder / frame.label / name)
    return folder


def adapted(folder, *more):
    arguments = ["adapt", "b", str(folder), "--state", "s", "--allow-code", "--json", *more]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


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
    from safetensors.numpy import load_file

    before = load_file("b/adaptive.safetensors")
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


# what was given is used, or refused

PLAIN = "def make(): return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), *end())\n"


def broken(folder):
    (folder / "apple").mkdir(parents=True)
    for name in ("a.jpg", "b.png"):
        (folder / "apple" / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return folder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--images", "{broken}"), "no image can be read; the first: "),
        (("--calibrate", "{broken}", "--precision", "int8"), "no image can be read; the first: "),
        (("--images", ""), "the name of the stream is empty"),
        (("--calibrate", "", "--precision", "int8"), "the name of the stream is empty"),
        (("--images", "nowhere"), "nowhere does not exist"),
        (("--calibrate", "demo"), "add --precision int8"),
        (("--int8-profile", "s8s8"), "add --precision int8"),
        (("--cut", ""), "has no block ''"),
        (("--input-size", "0"), "input size is 0"),
        (("--weights", ""), "is not a .safetensors file"),
    ],
)
def test_an_option_that_cannot_be_used_is_never_replaced(options, says, run, tmp_path):
    folder = broken(tmp_path / "broken")
    result = run(PLAIN, *sized(*[option.format(broken=folder) for option in options]))
    is_one_line(result, says)
    assert not (tmp_path / "b").exists()


def test_images_that_cannot_be_read_are_counted_and_the_others_used(run, tmp_path):
    folder = photos(broken(tmp_path / "some"), n=4)
    result = run(PLAIN, *sized("--images", folder))
    assert result.exit_code == 0
    assert "2 images cannot be read and are left out" in result.stderr
    assert "compared with PyTorch on 12 real images" in result.stdout


def test_an_empty_list_of_images_is_no_reason_to_take_others(run, tmp_path):
    run(PLAIN, *sized("--list-cuts"))
    backbone = load_backbone(run.name, input_size=SIZE)
    for given in ({"images": []}, {"calibration": [], "precision": "int8"}):
        with pytest.raises(ConfigError, match="holds no image"):
            export_bundle(backbone, "block2", tmp_path / "b", **given)


@pytest.mark.parametrize("size", [40, 48, 64])
def test_the_input_size_of_a_backbone_is_the_one_that_was_given(size, run):
    net = (
        "def make(): return Backbone('x', nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8),\n"
        "    *end()), Preprocessing(size=48, mean=(127.5,) * 3, std=(127.5,) * 3))\n"
    )
    assert run(net, "--input-size", size, "--cut", "2").exit_code == 0
    assert open_bundle("b").preprocessing.size == size


def test_an_input_size_that_a_backbone_cannot_take_is_refused(run):
    net = (
        "def make(): return Backbone('x', nn.Sequential(conv(3, 8), nn.Flatten(),\n"
        "    nn.Linear(8 * 16 * 16, 4)), Preprocessing(size=32, mean=(1.0,) * 3, std=(1.0,) * 3))\n"
    )
    is_one_line(run(net, "--input-size", 64), "block '2'")


@pytest.mark.parametrize("place", ["net[0].weight", "net[2].bias", "net[3].running_var"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_not_finite_are_refused_wherever_they_are(place, value, run, tmp_path):
    net = (
        "def make():\n"
        "    net = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), *end())\n"
        f"    {place}.data[3] = float('{value}')\n    return net\n"
    )
    is_one_line(run(net, *sized("--cut", "block2")), "not finite")
    assert not (tmp_path / "b").exists()


def test_values_that_overflow_on_real_images_are_refused(run):
    net = (
        "def make(): return nn.Sequential(conv(3, 8), Do(lambda x: x * 1e38 * 1e38), conv(8, 8),\n"
        "    *end())\n"
    )
    is_one_line(run(net, *sized("--cut", "block2")), "NaN or infinity for real images")


def test_a_weights_file_that_holds_nan_is_refused(run, tmp_path):
    from safetensors.numpy import save_file

    run(PLAIN, *sized("--list-cuts"))
    tensors = load_backbone(run.name, input_size=SIZE).blocks.state_dict()
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    arrays["block2.weight"][1, 2] = np.nan
    save_file(arrays, tmp_path / "w.safetensors")
    is_one_line(run(PLAIN, *sized("--weights", tmp_path / "w.safetensors")), "'block2.weight'")
    arrays["block2.weight_q"] = np.nan_to_num(arrays.pop("block2.weight")).astype(np.int8)
    save_file(arrays, tmp_path / "w.safetensors")
    is_one_line(run(PLAIN, *sized("--weights", tmp_path / "w.safetensors")), "without 'block2")
    from safetensors.torch import save_file as save_tensors

    halves = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_tensors(halves, tmp_path / "w.safetensors")
    is_one_line(run(PLAIN, *sized("--weights", tmp_path / "w.safetensors")), "BF16")


def test_a_bundle_whose_code_has_changed_says_so(run, tmp_path):
    assert run(PLAIN, *sized("--cut", "block2")).exit_code == 0
    run(PLAIN.replace("conv(8, 8)", "conv(8, 12)"), *sized("--list-cuts"))
    arguments = ["adapt", "b", str(photos(tmp_path / "d")), "--state", "s", "--allow-code"]
    result = CliRunner().invoke(cli, arguments)
    is_one_line(result, "now returns another network")
