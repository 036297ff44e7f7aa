"""The adaptive part that is trained: built from adaptive.onnx, the same as the network's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_networks import SIZE, adapted, photos, sized

from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle.manifest import manifest_digest, member_entry
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import BundleError
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.export.split import split
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.schedule import make_schedule

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "bundle"


def changed(bundle_path, folder, **entries):
    """Copy a bundle and change entries of its manifest; None takes one out."""
    shutil.copytree(bundle_path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, value in entries.items():
        value = value(manifest) if callable(value) else value
        manifest[name] = value
        if value is None:
            del manifest[name]
    manifest["sha256"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def latents_of(bundle, n=6):
    rng = np.random.default_rng(0)
    return np.abs(rng.standard_normal((n, *bundle.latent_shape), np.float32))


def same_as_runtime(bundle):
    x, blocks = latents_of(bundle), adaptive_blocks(bundle)
    with torch.no_grad():
        ours = blocks(torch.from_numpy(x)).numpy()
    theirs = OnnxEngine(bundle.read("adaptive.onnx")).run(x)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    weights = bundle.weights()
    assert {n: t.shape for n, t in blocks.state_dict().items()} == {
        n: a.shape for n, a in weights.items()
    }
    assert all(np.array_equal(t.numpy(), weights[n]) for n, t in blocks.state_dict().items())
    x = torch.from_numpy(x)
    for level, block in zip(bundle.levels, blocks, strict=False):
        assert tuple(x.shape[1:]) == level.shape
        x = block(x)
    return blocks


def test_a_bundle_without_entries_for_it_is_divided_all_the_same(bundle_path, tmp_path):
    assert not open_bundle(GOLDEN).level_values
    assert len(same_as_runtime(open_bundle(GOLDEN))) == 3
    old = changed(bundle_path, tmp_path / "b", level_values=None, latent_axes=None)
    new, bundle = adaptive_blocks(open_bundle(bundle_path)), open_bundle(old)
    assert bundle.latent_axes == "CHW"
    for one, other in zip(same_as_runtime(bundle), new, strict=True):
        assert list(one.state_dict()) == list(other.state_dict())


def test_training_gives_the_weights_that_training_the_network_itself_gives(bundle_path):
    bundle = open_bundle(bundle_path)
    backbone = load_backbone("mobilenet_v2", input_size=bundle.preprocessing.size)
    backbone.blocks = fold_batch_norm(backbone.blocks)
    own = split(backbone, bundle.manifest["cut"])[1].requires_grad_(True)
    config, latents = LearningConfig(blocks_lr=0.01), latents_of(bundle, 24)
    codec, learners = bundle.codec(config.bits), []
    for blocks in (own, same_as_runtime(bundle)):
        memory = LatentMemory(codec.record_bytes, 1 << 20)
        schedule = make_schedule(config.schedule_name, bundle.levels, config.step_costs)
        learner = Learner(blocks, bundle.levels, memory, codec, schedule, config)
        learner.learn_many(codec.encode(latents), np.arange(24) % 4)
        for step in range(12):
            learner.step(level=step % 4)
        learners.append(learner)
    one, other = (learner.weights() for learner in learners)
    assert learners[0].has_moved and one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


BROKEN = {
    "too few values": {"level_values": lambda m: m["level_values"][1:]},
    "no names": {"level_values": lambda m: [1] * len(m["level_values"])},
    "an unknown value": {"level_values": lambda m: [*m["level_values"][:1], "nowhere",
                                                    *m["level_values"][2:]]},
    "the wrong order": {"level_values": lambda m: [m["level_values"][i]
                                                   for i in (0, 2, 1, 3, 4)]},
    "another end": {"level_values": lambda m: [*m["level_values"][:-1], "latent"]},
    "other axes": {"latent_axes": "ND"},
    "axes that are none": {"latent_axes": 7},
    "weights elsewhere": {"adaptive_slots": lambda m: {
        n: [at - 8, shape] for n, (at, shape) in m["adaptive_slots"].items()}},
    "a shape below zero": {"adaptive_slots": lambda m: {
        n: [at, [-k for k in shape]] for n, (at, shape) in m["adaptive_slots"].items()}},
    "other weights": {"adaptive_slots": lambda m: {
        f"x{n}": slot for n, slot in m["adaptive_slots"].items()}},
    "levels of other shapes with their values": {
        "levels": lambda m: [{**one, "shape": [3, 1, 1]} if i == 1 else one
                             for i, one in enumerate(m["levels"])]},
    "a latent of another width": {
        "levels": lambda m: [{**one, "shape": [7, *one["shape"][1:]]} if i == 0 else one
                             for i, one in enumerate(m["levels"])]},
    "levels of other names, found by their weights": {
        "level_values": None,
        "levels": lambda m: [{**one, "name": f"x{one['name']}"} for one in m["levels"]]},
    "levels of other shapes": {
        "level_values": None,
        "levels": lambda m: [{**one, "shape": [3, 1, 1]} if i == 1 else one
                             for i, one in enumerate(m["levels"])]},
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_manifest_that_does_not_fit_adaptive_onnx_is_refused(what, bundle_path, tmp_path):
    folder = changed(bundle_path, tmp_path / "b", windows={}, **BROKEN[what])
    with pytest.raises(BundleError, match=r"export it again|not finite|overlap") as caught:
        adaptive_blocks(open_bundle(folder))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_weights_that_are_not_finite_are_refused(bundle_path, tmp_path):
    folder = tmp_path / "b"
    bundle = open_bundle(bundle_path)
    weights = {name: array.copy() for name, array in bundle.weights().items()}
    next(iter(weights.values())).flat[3] = np.nan
    data = bundle.splice(weights)
    changed(bundle_path, folder,
            files=lambda m: {**m["files"], "adaptive.onnx": member_entry(data)})  # fmt: skip
    (folder / "adaptive.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="not finite"):
        open_bundle(folder)


def test_a_damaged_adaptive_part_is_built_or_refused_in_one_line(tmp_path):
    """Digests and slots are right, as a forger would make them."""
    folder, rng, n_built = tmp_path / "b", np.random.default_rng(0), 0
    shutil.copytree(GOLDEN, folder)
    data = (GOLDEN / "adaptive.onnx").read_bytes()
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    for at in range(400):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 4))):
            damaged[place] = int(rng.integers(0, 256))
        (folder / "adaptive.onnx").write_bytes(damaged)
        manifest["files"]["adaptive.onnx"] = member_entry(bytes(damaged))
        manifest["level_values"] = ["latent", "relu", "relu_1", "feature"] if at % 2 else []
        manifest["sha256"] = manifest_digest(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        try:
            adaptive_blocks(open_bundle(folder))
            n_built += 1
        except BundleError as error:
            assert "\n" not in str(error) and len(str(error)) < 700
    assert 20 < n_built < 380


def test_a_robot_needs_neither_onnx_nor_the_libraries_of_the_network(bundle_path):
    code = f"""
import sys
for name in ("onnx", "onnxscript", "torchvision", "timm", "plr_edge.backbones"):
    sys.modules[name] = None
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.runtime.inline_training import InlineTraining
from plr_edge.config import EngineConfig
from plr_edge.replay.schedule import make_schedule
bundle, config = open_bundle({str(bundle_path)!r}), LearningConfig()
schedule = make_schedule(config.schedule_name, bundle.levels, config.step_costs)
print(len(InlineTraining(bundle, config, EngineConfig(), schedule).learner.blocks))
import plr_edge.robot.trainer
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(open_bundle(bundle_path).levels) - 1


SHUFFLE = """
class Shuffle(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
"""
NETWORKS = {
    "a channel shuffle that asks for the batch size": (
        SHUFFLE, "conv(3, 8), nn.ReLU(), conv(8, 8), Shuffle(), nn.ReLU(), conv(8, 8, 1), *end()"),
    "maps of a fixed size": (
        "", "conv(3, 8), nn.ReLU(), conv(8, 8), nn.Hardswish(), nn.Flatten(), "
            "nn.Linear(8 * (SIZE // 4) ** 2, 12), nn.GELU()"),
    "squeeze and excitation": (
        """
class Excite(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
    def forward(self, x):
        return x * self.gate(x)
""", "conv(3, 8), nn.ReLU(), conv(8, 8), Excite(), conv(8, 8, 1), nn.SiLU(), *end()"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_a_user_is_trained_from_its_bundle(name, run, tmp_path):
    classes, layers = NETWORKS[name]
    code = f"SIZE = {SIZE}\n{classes}\ndef make(): return nn.Sequential({layers})\n"
    exported = run(code, *sized())
    assert exported.exit_code == 0, exported.output
    bundle = open_bundle("b")
    same_as_runtime(bundle)
    assert ("fixed" in name) == (not bundle.windows) or bundle.latent_shape[1] == 1
    summary = adapted(photos(tmp_path / "d"), "--train-ratio", "2")
    assert sum(summary["steps_per_level"][:-1]) > 0
