"""What was given to an export is used, or refused. Nothing is put in its place."""

import numpy as np
import pytest
from own_networks import PLAIN, SIZE, is_one_line, photos, sized

from plr_edge.backbones import load_backbone
from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import ConfigError
from plr_edge.export.bundle_export import export_bundle


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
        (("--images", ""), "--images is empty"),
        (("--calibrate", "", "--precision", "int8"), "--calibrate is empty"),
        (("--images", "nowhere"), "nowhere does not exist"),
        (("--calibrate", "demo"), "add --precision int8"),
        (("--int8-profile", "s8s8"), "add --precision int8"),
        (("--cut", ""), "--cut is empty"),
        (("--input-size", "0"), "input size is 0"),
        (("--weights", ""), "--weights is empty"),
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
