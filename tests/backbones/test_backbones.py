import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.data.packs import open_pack
from plr_edge.backbones import BACKBONES, load_backbone
from plr_edge.backbones.base import SameConv2d, fold_batch_norm
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BackboneError
from plr_edge.stream import open_stream

GRANNY_SMITH = 949  # of 1,001 ImageNet classes, 0 being the background
WIDTHS = {
    "mobilenet_v2": 1280, "mobilenet_v1_0.5": 512, "mobilenet_v1_0.25": 256,
    "resnet20_cifar": 64, "resnet56_cifar": 64, "resnet18": 512, "bir_c3": 1024,
}  # fmt: skip


def first_session():
    """The first of the two sessions in which a granny smith was filmed."""
    film = open_stream("demo", split="all")
    return [frame for frame in film if frame.label == "apple_granny_smith_1"][:36]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_ends_in_a_feature_and_folds_exactly(name):
    backbone = load_backbone(name, input_size=64 if name == "resnet18" else None)
    generator = torch.Generator().manual_seed(0)
    for module in backbone.blocks.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    size = backbone.preprocessing.size
    x = torch.randn(2, 3, size, size, generator=generator)
    with torch.no_grad():
        feature = backbone.blocks(x)
        folded = fold_batch_norm(backbone.blocks)
        torch.testing.assert_close(folded(x), feature, rtol=1e-3, atol=1e-3)
    assert feature.shape == (2, WIDTHS[name])
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_that_of_tensorflow(n, stride):
    conv = SameConv2d(1, 1, 3, stride=stride, bias=False)
    x = torch.randn(1, 1, n, n)
    out = -(-n // stride)
    total = max((out - 1) * stride + 3 - n, 0)
    before = total // 2
    padded = functional.pad(x, (before, total - before, before, total - before))
    torch.testing.assert_close(conv(x), functional.conv2d(padded, conv.weight, stride=stride))
    assert conv(x).shape[-1] == out


def test_the_embedded_network_knows_a_granny_smith():
    backbone = load_backbone("mobilenet_v2", input_size=224)
    frames = first_session()
    x = torch.from_numpy(backbone.preprocessing([f.image for f in frames[::6]]))
    with torch.no_grad():
        top = backbone.classifier(backbone.blocks(x)).topk(5).indices
    hits = [GRANNY_SMITH in row for row in top.tolist()]
    assert sum(hits) >= len(hits) / 2


def test_preprocessing_takes_the_centre_square_and_normalises():
    image = np.zeros((10, 14, 3), np.uint8)
    image[:, 2:12] = (255, 0, 51)
    x = Preprocessing(size=8, mean=(127.5, 0.0, 1.0), std=(127.5, 1.0, 2.0))([image])
    assert x.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(x[0, :, 4, 4], [1.0, 0.0, 25.0], atol=1e-5)
    np.testing.assert_allclose(x[0, :, 0, 0], [1.0, 0.0, 25.0], atol=1e-5)


def test_a_users_own_network_becomes_a_backbone(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def make(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())\n"
        "def wrong(): return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    backbone = load_backbone("mynet:make", input_size=32)
    assert backbone.block_names == ("block0", "block1", "block2", "pool")
    with pytest.raises(BackboneError, match=r"Backbone or an nn\.Sequential"):
        load_backbone("mynet:wrong")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file(
        {"module.conv1.weight": np.zeros((16, 3, 3, 3), np.float32)}, tmp_path / "w.safetensors"
    )
    with pytest.raises(BackboneError, match="missing from the file"):
        load_backbone("resnet20_cifar", weights=tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BackboneError, match="not a valid safetensors"):
        load_backbone("resnet20_cifar", weights=tmp_path / "w.safetensors")


def folder(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"set {variable} to the folder of the packs")
    return Path(os.environ[variable])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "stated"),
    [
        ("resnet20_cifar", "resnet20-cifar10/model.safetensors", 0.916),
        ("resnet56_cifar", "resnet56-cifar10/model.safetensors", 0.927),
    ],
)
def test_cifar_resnets_reach_the_accuracy_that_their_weights_state(name, file, stated):
    backbone = load_backbone(name, weights=folder("PLR_EDGE_WEIGHTS") / file)
    frames = list(open_pack(folder("PLR_EDGE_DATA") / "cifar10-subset", split="test"))
    classes = "airplane automobile bird cat deer dog frog horse ship truck".split()
    x = torch.from_numpy(backbone.preprocessing([frame.image for frame in frames]))
    with torch.no_grad():
        answers = torch.cat([backbone.classifier(backbone.blocks(part)) for part in x.split(100)])
    right = [classes[k] == f.label for k, f in zip(answers.argmax(1).tolist(), frames, strict=True)]
    assert np.mean(right) == pytest.approx(stated, abs=0.003)


@pytest.mark.data
@pytest.mark.slow
def test_bir_front_and_streaming_lda_reach_the_stated_accuracy_on_cifar100():
    from plr_edge.classifiers import StreamingLda

    weights = folder("PLR_EDGE_WEIGHTS") / "bir-c3-5x16-cifar10/model.safetensors"
    backbone, data = load_backbone("bir_c3", weights=weights), folder("PLR_EDGE_DATA") / "cifar100"
    lda, classes = StreamingLda(1024), {}
    for x, names in features(backbone, open_pack(data)):
        lda.learn_many(x, np.array([classes.setdefault(name, len(classes)) for name in names]))
    right = [
        lda.scores_many(x).argmax(1) == np.array([classes[name] for name in names])
        for x, names in features(backbone, open_pack(data, split="test"))
    ]
    assert np.concatenate(right).mean() == pytest.approx(0.444, abs=0.005)


@pytest.mark.data
@pytest.mark.parametrize("width", ["0.5-160", "0.25-128"])
def test_mobilenet_v1_loads_and_knows_a_granny_smith(width):
    path = folder("PLR_EDGE_WEIGHTS") / f"mobilenet-v1-{width}/model.fp16.safetensors"
    backbone = load_backbone(f"mobilenet_v1_{width.split('-')[0]}", weights=path)
    frames = first_session()
    x = torch.from_numpy(backbone.preprocessing([f.image for f in frames[::6]]))
    with torch.no_grad():
        top = backbone.classifier(backbone.blocks(x)).topk(10).indices
    assert any(GRANNY_SMITH in row for row in top.tolist())


def features(backbone, stream, size=500):
    images, names = [], []
    for frame in stream:
        images.append(frame.image)
        names.append(frame.label)
        if len(images) == size:
            yield through(backbone, images), names
            images, names = [], []
    if images:
        yield through(backbone, images), names


def through(backbone, images):
    with torch.no_grad():
        return backbone.blocks(torch.from_numpy(backbone.preprocessing(images))).numpy()
