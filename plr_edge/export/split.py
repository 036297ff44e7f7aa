"""Splitting a backbone at a cut, and the cost of every legal cut."""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from plr_edge.backbones.base import Backbone
from plr_edge.errors import BackboneError, CutError
from plr_edge.replay.schedule import Level

CLASSIFIER = "classifier"  # the cut that leaves only the classifier to train


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Cost per sample of a cut before one block.

    Attributes:
        name: name of the block that becomes the first adaptive one.
        latent_shape: shape of a latent, (C, H, W) or (D,).
        latent_bytes: size of a float32 latent.
        frozen_share: share of the backbone's multiply-adds in the frozen part, 0..1.
        train_macs: multiply-adds of one training sample that enters at level 1: one forward pass,
            and twice as many for the backward pass.
        saved_bytes: memory that autograd keeps for the backward pass.
    """

    name: str
    latent_shape: tuple[int, ...]
    latent_bytes: int
    frozen_share: float
    train_macs: int
    saved_bytes: int


def list_cuts(backbone: Backbone) -> list[Cut]:
    """Return every legal cut of a backbone, earliest first."""
    macs, shapes = block_costs(backbone)
    total = sum(macs.values())
    cuts = []
    for name in legal_cuts(backbone):
        _, adaptive = split(backbone, name)
        own = sum(macs[block] for block, _ in adaptive.named_children())
        cuts.append(
            Cut(
                name=name,
                latent_shape=shapes[name],
                latent_bytes=4 * math.prod(shapes[name]),
                frozen_share=1.0 - own / total,
                train_macs=3 * own,
                saved_bytes=saved_bytes(adaptive, shapes[name]),
            )
        )
    return cuts


def legal_cuts(backbone: Backbone) -> tuple[str, ...]:
    """Return the names that `split` accepts as a cut, earliest first."""
    return (*backbone.block_names[1:], CLASSIFIER)


def split(backbone: Backbone, cut: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Split the blocks of a backbone before the block `cut`.

    Args:
        backbone: the backbone; both parts share its weights.
        cut: name of a block, or `classifier`.

    Returns:
        frozen: the blocks before the cut.
        adaptive: the blocks from the cut up; empty for the cut `classifier`.

    Raises:
        CutError: the block is unknown, is the first one, or the name lies inside a block.
    """
    names = backbone.block_names
    if cut not in legal_cuts(backbone):
        raise CutError(_explain(backbone, cut))
    at = len(names) if cut == CLASSIFIER else names.index(cut)
    children = list(backbone.blocks.named_children())
    return nn.Sequential(OrderedDict(children[:at])), nn.Sequential(OrderedDict(children[at:]))


def levels_of(backbone: Backbone, cut: str) -> tuple[Level, ...]:
    """Return the levels above a cut. The last one, `classifier`, counts the cost of one class."""
    macs, shapes = block_costs(backbone)
    _, adaptive = split(backbone, cut)
    levels = [
        Level(
            name=name,
            shape=shapes[name],
            weights=sum(p.numel() for p in block.parameters()),
            macs=macs[name],
        )
        for name, block in adaptive.named_children()
    ]
    width = shapes[CLASSIFIER][0]
    return (*levels, Level(name=CLASSIFIER, shape=(width,), weights=width + 1, macs=width))


def block_costs(backbone: Backbone) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Measure the cost of one forward pass.

    Returns:
        macs: multiply-adds by block.
        shapes: shape of the input of each block, and of the input of `classifier`.

    Raises:
        BackboneError: a block does not return one tensor, or the last one not a vector.
    """
    macs: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    size = backbone.preprocessing.size
    x = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        for name, block in backbone.blocks.named_children():
            shapes[name] = tuple(x.shape[1:])
            counter = FlopCounterMode(display=False)
            with counter:
                x = block(x)
            if not isinstance(x, torch.Tensor):
                raise BackboneError(
                    f"block {name!r} of {backbone.name} returns a {type(x).__name__}; "
                    "a block must return one tensor"
                )
            macs[name] = counter.get_total_flops() // 2
    if x.ndim != 2:
        raise BackboneError(
            f"the last block of {backbone.name} returns shape {tuple(x.shape)}; it must return "
            "(B, D)"
        )
    shapes[CLASSIFIER] = tuple(x.shape[1:])
    return macs, shapes


def saved_bytes(adaptive: nn.Sequential, latent_shape: tuple[int, ...]) -> int:
    """Return the bytes that autograd keeps for one sample's backward pass, without weights."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in adaptive.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = adaptive(torch.zeros(1, *latent_shape))
        total = sum(kept.values())  # while `output` still holds the graph
    del output
    return total


def _explain(backbone: Backbone, cut: str) -> str:
    """Return why a cut is illegal, and the nearest legal ones."""
    names = backbone.block_names
    block = cut.split(".")[0]
    if cut == names[0]:
        return f"a cut before {cut!r} leaves no frozen part; the earliest legal cut is {names[1]!r}"
    if block in names and block != cut:
        legal = legal_cuts(backbone)
        after = (*names, CLASSIFIER)[names.index(block) + 1]
        near = [repr(name) for name in (block, after) if name in legal]
        return (
            f"{cut!r} lies inside a block of {backbone.name}, where several tensors may cross the "
            f"cut; the nearest legal cuts are {' and '.join(near)}"
        )
    near_names = difflib.get_close_matches(cut, legal_cuts(backbone), n=2)
    hint = f"did you mean {' or '.join(map(repr, near_names))}? " if near_names else ""
    return (
        f"{backbone.name} has no block {cut[:60]!r}; {hint}legal cuts are "
        f"{', '.join(legal_cuts(backbone))}; `plr-edge export --list-cuts` lists their costs"
    )


def default_cut(backbone: Backbone) -> str:
    """Return the default cut, which lies after five sixths of the blocks.

    For MobileNetV2 this is `block14`, where a latent is smallest (160x4x4 at 128 pixels).
    """
    names = backbone.block_names
    return names[max(1, 5 * (len(names) - 1) // 6)]
