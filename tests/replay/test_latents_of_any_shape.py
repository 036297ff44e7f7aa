"""Progressive rehearsal on maps, channels-last maps, tokens, sequences and vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plr_edge.config import LearningConfig
from plr_edge.graph.graph import Graph, Node
from plr_edge.graph.module import GraphBlocks, GraphModule
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.linear_codec import LinearCodec
from plr_edge.replay.schedule import Level, make_schedule

C, WIDTH, N_CLASSES = 8, 6, 4
SHAPES = {"CHW": (C, 4, 5), "HWC": (4, 5, C), "ND": (9, C), "CT": (C, 12), "D": (C,)}


def node(op, inputs, output, **attributes) -> Node:
    return Node(op=op, inputs=tuple(inputs.split()), outputs=(output,), attributes=attributes)


def weights(seed: int, *shape: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return values / np.sqrt(np.prod(shape[1:], dtype=np.float32))


def network(axes: str) -> Graph:
    """Two blocks on the kind of latent, and one that pools and mixes: `one`, `two` and `last`."""
    ones = {"one.scale": np.ones(C, np.float32)}
    if axes == "ND":  # attention over the tokens
        nodes = (
            node("LayerNormalization", "latent one.scale", "n"), node("MatMul", "n one.q", "q"),
            node("Transpose", "n", "t", perm=[0, 2, 1]), node("MatMul", "q t", "s"),
            node("Softmax", "s", "p"), node("MatMul", "p n", "m"), node("Add", "latent m", "a"),
            node("MatMul", "a two.w", "h"), node("Gelu", "h", "g"), node("Add", "a g", "b"),
            node("ReduceMean", "b axes", "f", keepdims=0),
        )  # fmt: skip
        given = {**ones, "one.q": weights(0, C, C), "two.w": weights(1, C, C),
                 "axes": np.array([1])}  # fmt: skip
    elif axes == "HWC":
        nodes = (
            node("LayerNormalization", "latent one.scale", "n"), node("MatMul", "n one.w", "m"),
            node("Add", "latent m", "a"), node("MatMul", "a two.w", "h"), node("Gelu", "h", "g"),
            node("Add", "a g", "b"), node("ReduceMean", "b axes", "f", keepdims=0),
        )  # fmt: skip
        given = {**ones, "one.w": weights(0, C, C), "two.w": weights(1, C, C),
                 "axes": np.array([1, 2])}  # fmt: skip
    elif axes == "D":
        nodes = (node("Gemm", "latent one.w", "h", transB=1), node("Relu", "h", "a"),
                 node("Gemm", "a two.w", "g", transB=1), node("Relu", "g", "f"))  # fmt: skip
        given = {"one.w": weights(0, C, C), "two.w": weights(1, C, C)}
    else:
        kernel = (3,) * (len(SHAPES[axes]) - 1)
        pads = {"pads": [1] * (2 * len(kernel))}
        nodes = (
            node("Conv", "latent one.w", "h", **pads), node("Relu", "h", "a"),
            node("Conv", "a two.w", "g", **pads), node("Relu", "g", "b"),
            node("GlobalAveragePool", "b", "p"), node("Flatten", "p", "f"),
        )  # fmt: skip
        given = {"one.w": weights(0, C, C, *kernel), "two.w": weights(1, C, C, *kernel)}
    nodes = (*nodes, node("Gemm", "f last.w", "feature", transB=1))
    given["last.w"] = weights(2, WIDTH, C)
    return Graph(
        nodes=nodes, inputs=("latent",), outputs=("feature",), constants=given, opset=20
    )  # fmt: skip


def learner_of(axes: str) -> tuple[Learner, LinearCodec]:
    graph, shape = network(axes), SHAPES[axes]
    deepest = "b" if axes != "D" else "f"
    parts = map(GraphModule, graph.segments(("a", deepest)))
    blocks = GraphBlocks(dict(zip(("one", "two", "last"), parts, strict=True)))
    levels = (
        *(Level(name=n, shape=shape, weights=C, macs=100) for n in ("one", "two", "last")),
        Level(name="classifier", shape=(WIDTH,), weights=WIDTH + 1, macs=WIDTH),
    )
    codec = LinearCodec(shape=shape, bits=8, axes=axes)
    config = LearningConfig(blocks_lr=0.05, schedule="basic", bits=8)
    memory = LatentMemory(codec.record_bytes, 1 << 20)
    schedule = make_schedule(config.schedule_name, levels, None)
    return Learner(blocks, levels, memory, codec, schedule, config), codec


def samples(axes: str, seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Classes differ in a pattern over the channels, which a scale over places would blur."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_CLASSES, n)
    patterns = np.random.default_rng(9).standard_normal((N_CLASSES, C))
    at = {"CHW": 0, "HWC": 2, "ND": 1, "CT": 0, "D": 0}[axes]
    shape = SHAPES[axes]
    wide = patterns[labels].reshape(n, *(C if i == at else 1 for i in range(len(shape))))
    return (0.7 * wide + rng.standard_normal((n, *shape))).astype(np.float32), labels


@pytest.mark.parametrize("axes", SHAPES)
def test_every_level_trains_on_latents_of_any_shape(axes):
    learner, codec = learner_of(axes)
    latents, labels = samples(axes, 0)
    learner.learn_many(codec.encode(latents), labels)
    before = learner.weights()
    assert sorted(before) == sorted(network(axes).weights)
    for step in range(120):
        assert learner.step(level=step % 4) == step % 4
    after = learner.weights()
    assert all(not np.array_equal(before[name], after[name]) for name in before)
    new, truth = samples(axes, 1)
    scores = learner.scores_many(learner.features_of(new))
    assert (scores.argmax(1) == truth).mean() > 0.6  # chance is 0.25, 6 sigma of 60 are 0.34


@pytest.mark.parametrize("axes", SHAPES)
def test_features_of_a_level_are_those_of_its_latents(axes):
    learner, codec = learner_of(axes)
    latents, labels = samples(axes, 0)
    records = codec.encode(latents)
    learner.learn_many(records, labels)
    x = torch.from_numpy(codec.decode(records[:7]))
    for level, block in enumerate(learner.blocks):
        got = learner.features.at(level, np.arange(7))
        np.testing.assert_allclose(got, x.detach().numpy(), rtol=2e-3, atol=2e-3)  # float16
        x = block(x)


@pytest.mark.parametrize("axes", SHAPES)
def test_learning_goes_on_from_weights_that_were_saved(axes):
    one, codec = learner_of(axes)
    latents, labels = samples(axes, 0)
    one.learn_many(codec.encode(latents), labels)
    for step in range(20):
        one.step(level=step % 3)
    two, _ = learner_of(axes)
    two.restore(one.weights(), one.classifier())
    np.testing.assert_allclose(one.features_of(latents), two.features_of(latents), atol=1e-6)
