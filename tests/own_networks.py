"""Networks of users for tests of the export: how they are written, exported and compared."""

from __future__ import annotations

import json

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli
from plr_edge.engines.onnx_engine import OnnxEngine
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
BELOW = "conv(3, 8, 4), nn.ReLU()"
PLAIN = "def make(): return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), *end())\n"


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


def photos(folder, labels=("apple_20", "cherry_1", "tomato_1"), n=12):
    for frame in open_stream("demo", limit_per_class=n):
        if frame.label in labels:
            (folder / frame.label).mkdir(parents=True, exist_ok=True)
            name = f"{frame.index:05d}.png"
            Image.fromarray(frame.image).save(folder / frame.label / name)
    return folder


def adapted(folder, *more):
    arguments = ["adapt", "b", str(folder), "--state", "s", "--json", *more]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
