"""Splitting a backbone at a cut, and the cost of every legal cut."""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from plr_edge.backbones.base import CLASSIFIER, Backbone, fold_batch_norm, named_blocks
from plr_edge.backbones.checks import BATCH, check_feature, run_block
from plr_edge.errors import CutError
from plr_edge.export.trainable import is_trainable, trouble_above
from plr_edge.graph.module import GraphBlocks
from plr_edge.replay.latent_axes import checked_axes
from plr_edge.replay.schedule import Level

_FROZEN = (0.6, 0.95)  # share of the multiply-adds below the default cut of a graph


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
    """Return every cut of a backbone that `offered_cuts` offers, earliest first."""
    macs, shapes = block_costs(backbone)
    total = max(sum(macs.values()), 1)
    cuts = []
    for name in offered_cuts(backbone):
        _, adaptive = split(backbone, name)
        own = sum(macs[block] for block, _ in named_blocks(adaptive))
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


def offered_cuts(backbone: Backbone) -> tuple[str, ...]:
    """Return the cuts that can be trained, earliest first: those with weights above, `classifier`.

    A cut above which no block has weights trains the classifier alone, as `classifier` does with a
    latent that is smaller. A cut with a layer above it that cannot be trained is left out as well.
    """
    folded = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
    _, shapes = block_costs(folded)
    usable = []
    for cut in legal_cuts(folded)[:-1]:
        _, adaptive = split(folded, cut)
        if is_trainable(adaptive) and not trouble_above(adaptive, shapes[cut]):
            usable.append(cut)
    return (*usable, CLASSIFIER)


def check_cut(backbone: Backbone, cut: str) -> None:
    """Check that a cut is legal, and that what lies above it can be trained.

    Args:
        backbone: the backbone.
        cut: name of a block, or `classifier`.

    Raises:
        CutError: it is not legal, or cannot be trained.
    """
    folded = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
    _, adaptive = split(folded, cut)
    trouble = trouble_above(adaptive, block_costs(folded)[1][cut])
    if trouble:
        raise CutError(
            f"{backbone.name} cannot be cut before {cut!r}: {trouble}; choose one of "
            f"{', '.join(offered_cuts(folded))}"
        )


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
    children = named_blocks(backbone.blocks)
    made = GraphBlocks if isinstance(backbone.blocks, GraphBlocks) else nn.Sequential
    return made(OrderedDict(children[:at])), made(OrderedDict(children[at:]))


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
        for name, block in named_blocks(adaptive)
    ]
    width = shapes[CLASSIFIER][0]
    return (*levels, Level(name=CLASSIFIER, shape=(width,), weights=width + 1, macs=width))


def latent_axes(backbone: Backbone, cut: str, latent_shape: tuple[int, ...]) -> str:
    """Return what the axes of the latents of a cut mean; see `checked_axes`."""
    known = "" if backbone.divided is None else backbone.divided.latent_axes(cut)
    return checked_axes(latent_shape, known)


def block_costs(backbone: Backbone) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Measure the cost of one forward pass.

    Returns:
        macs: multiply-adds by block.
        shapes: shape of the input of each block, and of the input of `classifier`.

    Raises:
        BackboneError: a block fails or does not return one tensor, or the last one not a vector.
    """
    macs: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    x = torch.zeros(BATCH, *backbone.preprocessing.input_shape)
    for name, block in named_blocks(backbone.blocks):
        shapes[name] = tuple(x.shape[1:])
        counter = FlopCounterMode(display=False)
        with counter:
            x = run_block(backbone.name, name, block, x)
        macs[name] = counter.get_total_flops() // 2 // BATCH
    check_feature(backbone.name, x)
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
        earliest = legal_cuts(backbone)[0]
        return f"a cut before {cut!r} leaves no frozen part; the earliest legal cut is {earliest!r}"
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
    """Return the default cut.

    Of a network that came in as a graph it is the one with the smallest latent of those that freeze
    60 to 95 % of the multiply-adds, and of equal ones the first, which trains most. Of another one
    it lies after five sixths of the blocks, or is the nearest that can be trained: `block14` of
    MobileNetV2, where a latent is smallest (160x4x4 at 128 pixels), and `classifier` if there is
    nothing to train.
    """
    if backbone.divided is not None:
        return _cheapest(list_cuts(backbone))
    names, offered = backbone.block_names, offered_cuts(backbone)
    wanted = max(1, 5 * (len(names) - 1) // 6)
    before = [name for name in names[1 : wanted + 1] if name in offered]
    return before[-1] if before else next(c for c in offered if c not in names[: wanted + 1])


def _cheapest(cuts: list[Cut]) -> str:
    """Return the cut with the smallest latent of those that leave enough to train, but not more."""
    trained = [cut for cut in cuts if cut.name != CLASSIFIER]
    if not trained:
        return CLASSIFIER
    low, high = _FROZEN
    within = [cut for cut in trained if low <= cut.frozen_share <= high]
    if not within:  # the one nearest to the range
        return min(trained, key=lambda cut: abs(cut.frozen_share - (low + high) / 2)).name
    smallest = min(cut.latent_bytes for cut in within)
    return next(cut.name for cut in within if cut.latent_bytes <= smallest)
