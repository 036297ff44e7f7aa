"""Networks of users whose answer for an image depends on others, and unusual weights."""

import numpy as np
import pytest
from own_networks import adapted, is_one_line, photos, sized, smallest_cosine

from plr_edge.bundle.bundle import splice

DEPENDS_ON_THE_BATCH = {
    "BatchNorm without statistics": "nn.BatchNorm2d(8, track_running_stats=False), conv(8, 8)",
    "F.batch_norm": "Do(lambda x: F.batch_norm(x, None, None, training=True)), conv(8, 8)",
    "minus the mean": "conv(8, 8), Do(lambda x: x - x.mean(0, keepdim=True))",
    "softmax of the batch": "conv(8, 8), Do(lambda x: x.softmax(0))",
}


@pytest.mark.parametrize("n", [2, 8, 12])
@pytest.mark.parametrize("form", DEPENDS_ON_THE_BATCH)
def test_a_layer_that_depends_on_the_batch_is_refused(form, n, run, tmp_path):
    folder = photos(tmp_path / "p", n=n)
    code = f"def make(): return nn.Sequential(conv(3, 8), {DEPENDS_ON_THE_BATCH[form]}, *end())\n"
    cut = "block2" if form.startswith("minus") or form.startswith("soft") else "block1"
    images = next(folder.iterdir())
    result = run(code, *sized("--cut", cut, "--images", images))
    is_one_line(result, "the batch")
    assert not (tmp_path / "b").exists()


SCALARS = {
    "a gain": ("torch.tensor(1.5)", "x * self.w"),
    "a slope": ("torch.tensor(-0.5)", "torch.maximum(x, x * self.w)"),
    "an offset": ("torch.tensor(0.25)", "x + self.w"),
}


@pytest.mark.parametrize("form", SCALARS)
def test_a_weight_that_is_one_number_is_exported_and_trained(form, run, tmp_path):
    value, forward = SCALARS[form]
    code = (
        "class Own(nn.Module):\n"
        "    def __init__(self):\n"
        f"        super().__init__(); self.w = nn.Parameter({value})\n"
        f"    def forward(self, x): return {forward}\n"
        "def make(): return nn.Sequential(conv(3, 8), conv(8, 8), Own(), *end())\n"
    )
    result = run(code, *sized("--cut", "block1"))
    assert result.exit_code == 0, result.output
    assert smallest_cosine("b", run.made()) > 0.999999
    assert adapted(photos(tmp_path / "p"))["n_taught"] > 20


def test_splicing_takes_numbers_and_refuses_another_shape():
    assert splice(b"0123456", {"w": (1, [])}, {"w": np.float32(0)}) == b"0\0\0\0\x0056"
    with pytest.raises(Exception, match="the template needs"):
        splice(b"0123456", {"w": (1, [])}, {"w": np.zeros(1, np.float32)})


@pytest.mark.parametrize("method", ["l1_unstructured", "random_unstructured"])
def test_pruned_layers_above_the_cut_are_one_line(method, run):
    code = (
        "from torch.nn.utils import prune\n"
        "def make():\n"
        "    net = nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 8), *end())\n"
        f"    prune.{method}(net[2], 'weight', 0.5)\n"
        "    return net\n"
    )
    is_one_line(run(code, *sized("--cut", "block1")), "prune.remove()")
