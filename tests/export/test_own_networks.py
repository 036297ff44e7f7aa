"""Networks of users, through the command line: what comes out is the object that was given."""

import re

import pytest
from own_networks import BELOW, SIZE, is_one_line, sized, smallest_cosine

from plr_edge.backbones import load_backbone
from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import CutError
from plr_edge.export.split import check_cut, default_cut, offered_cuts

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
def test_a_network_that_its_blocks_do_not_make_comes_in_as_it_is_called(form, run, tmp_path):
    result = run(ANOTHER_FORWARD[form], *sized())
    if "Backbone" in form:  # its author has divided it
        is_one_line(result, "do not match the network that was given")
        assert not (tmp_path / "b").exists()
    else:
        assert result.exit_code == 0, result.output
        assert smallest_cosine("b", run.made()) > 0.999999


NOT_A_NETWORK = {
    "list": ("Do(lambda x: [x])", "returns a list"),
    "namedtuple": ("Do(lambda x: namedtuple('Out', 'a')(x))", "returns a Out"),
    "none": ("Do(lambda x: None)", "returns a NoneType"),
    "gru": ("nn.Flatten(2), nn.GRU(64, 8, batch_first=True)", "returns a tuple"),
    "indices": ("*end(), Do(lambda x: x.argmax(1, keepdim=True))", "returns int64"),
    "one image": ("Do(lambda x: x.reshape(1, -1))", "the first axis must be the batch"),
    "no batch": ("*end(), Do(lambda x: x.squeeze(0).mean(0))", "the first axis must be the batch"),
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
def test_a_layer_that_its_blocks_cannot_train_is_fixed_and_the_others_are_trained(form, run):
    code, says = ABOVE[form]
    net = f"def make(): return nn.Sequential({BELOW}, {code}, conv(8, 8), *end())"
    result = run(net + "\n", *sized())
    assert result.exit_code == 0, result.output
    assert smallest_cosine("b", run.made()) > 0.999999
    backbone = load_backbone(run.name, input_size=SIZE)  # divided by its children
    offered = offered_cuts(backbone)
    assert "block2" not in offered
    assert default_cut(backbone) in offered[:-1]  # there are layers with weights further up
    with pytest.raises(CutError, match=re.escape(says)):
        check_cut(backbone, "block2")


TIED = (
    "class Tied(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.a, self.b = conv(8, 8, 1), conv(8, 8, 1)\n"
    "        self.b.weight = self.a.weight\n"
    "    def forward(self, x): return self.b(self.a(x).relu())\n"
    "def make(): return nn.Sequential(conv(3, 8), conv(8, 8), Tied(), *end())\n"
)


def test_one_weight_under_two_names_is_one_for_each_use(run, tmp_path):
    assert run(TIED, *sized("--cut", "block1")).exit_code == 0
    names = set(open_bundle("b").manifest["adaptive_slots"])
    assert {"2.a.weight", "2.a.weight_2"} <= names or {"2.b.weight", "2.b.weight_2"} <= names
    assert smallest_cosine("b", run.made()) > 0.999999
    assert run(TIED, *sized("--force")).exit_code == 0
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
