"""Backbones by name, built-in or a user's own, with weights from safetensors files.

`BACKBONES` maps names to backbones; add a new one there.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from torch import nn

from plr_edge.assets import MOBILENET_V2_WEIGHTS
from plr_edge.backbones import bir, mobilenet, resnet
from plr_edge.backbones.base import CLASSIFIER, Backbone, SpatialMean, named_blocks
from plr_edge.backbones.checks import BATCH, is_channels_last, run_block
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BackboneError, one_line

__all__ = ["BACKBONES", "Backbone", "from_sequential", "load_backbone", "read_weights"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneSpec:
    """How to build a backbone.

    Attributes:
        build: returns the backbone; takes `size`, the height and width of the input.
        rename: maps the name of a tensor in a weights file to the name in the backbone.
        weights: embedded weights, if there are any.
        size: default input size; that of `build` by default.
    """

    build: Callable[..., Backbone]
    rename: Callable[[str], str]
    weights: Path | None = None
    size: int | None = None


BACKBONES: dict[str, BackboneSpec] = {
    "mobilenet_v2": BackboneSpec(mobilenet.mobilenet_v2, mobilenet.rename, MOBILENET_V2_WEIGHTS),
    "mobilenet_v1_0.5": BackboneSpec(
        partial(mobilenet.mobilenet_v1, 0.5), mobilenet.rename, size=160
    ),
    "mobilenet_v1_0.25": BackboneSpec(
        partial(mobilenet.mobilenet_v1, 0.25), mobilenet.rename, size=128
    ),
    "resnet20_cifar": BackboneSpec(partial(resnet.resnet_cifar, 20), resnet.rename),
    "resnet56_cifar": BackboneSpec(partial(resnet.resnet_cifar, 56), resnet.rename),
    "resnet18": BackboneSpec(resnet.resnet18, resnet.rename),
    "bir_c3": BackboneSpec(bir.bir_c3, bir.rename),
}


def load_backbone(
    name: str, *, weights: Path | None = None, input_size: int | None = None, seed: int = 0
) -> Backbone:
    """Build a backbone and load its weights.

    Args:
        name: one of `BACKBONES`, or `package.module:function`. The function returns a `Backbone`,
            or an `nn.Sequential` that expects ImageNet preprocessing at 224 pixels.
        weights: a safetensors file. By default MobileNetV2 takes its embedded weights, a user's
            own network keeps the weights it comes with, and any other gets random ones.
        input_size: height and width of the input in pixels; the backbone's own by default. A
            `Backbone` that a user's function returns takes it as well.
        seed: random seed of random weights.

    Raises:
        BackboneError: the backbone is unknown or cannot be imported, or the weights do not fit.
        ConfigError: the input size is not allowed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, spec = _build(name, input_size)
    path = spec.weights if weights is None and spec else weights
    if path is not None:
        _load_weights(backbone, Path(path), spec.rename if spec else str)
    elif spec is not None:
        _log.warning("%s has random weights; give --weights FILE", name)
    return backbone


def _build(name: str, input_size: int | None) -> tuple[Backbone, BackboneSpec | None]:
    if ":" in name:
        return _users_own(name, input_size), None
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise BackboneError(
            f"unknown backbone {name[:60]!r}; {hint}choose one of {', '.join(BACKBONES)}, "
            "or give your own as package.module:function"
        )
    spec = BACKBONES[name]
    size = spec.size if input_size is None else input_size
    return (spec.build() if size is None else spec.build(size=size)), spec


def _users_own(name: str, input_size: int | None) -> Backbone:
    module_name, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module_name), function)()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise BackboneError(f"cannot get a backbone from {name!r} ({reason})") from error
    if isinstance(made, Backbone):
        size = made.preprocessing.size if input_size is None else input_size
        return replace(made, name=name, preprocessing=replace(made.preprocessing, size=size))
    if not isinstance(made, nn.Sequential) or not len(made):
        raise BackboneError(
            f"{name!r} returned a {type(made).__name__}; return a Backbone or an nn.Sequential "
            "with at least one block"
        )
    return from_sequential(name, made, 224 if input_size is None else input_size)


def from_sequential(name: str, network: nn.Sequential, size: int) -> Backbone:
    """Return a backbone whose blocks are the children of an `nn.Sequential`.

    Args:
        name: name of the backbone.
        network: the network, which expects ImageNet preprocessing.
        size: height and width of the input in pixels.

    Raises:
        BackboneError: a child fails, or does not return one tensor of the batch.
    """
    preprocessing = Preprocessing(size=size, mean=resnet.IMAGENET_MEAN, std=resnet.IMAGENET_STD)
    network.eval()
    children: OrderedDict[str, nn.Module] = OrderedDict()
    x = torch.zeros(BATCH, 3, size, size)
    for child, module in named_blocks(network):
        called = f"block{child}" if child.isdigit() else child
        called = _free_name(children, f"{called}_block" if called == CLASSIFIER else called)
        children[called] = module
        x = run_block(repr(name), called, module, x)
    if is_channels_last(tuple(x.shape[1:])):
        raise BackboneError(
            f"{name!r} returns maps of shape {tuple(x.shape[1:])}, which looks like (H, W, C); end "
            "it with a block that returns x.permute(0, 3, 1, 2), or the mean x.mean((1, 2))"
        )
    if x.ndim == 4:
        children[_free_name(children, "pool")] = SpatialMean()
    return Backbone(
        name=name, blocks=nn.Sequential(children), preprocessing=preprocessing, reference=network
    )


def _free_name(taken: Container[str], name: str) -> str:
    """Return `name`, or `name_2`, `name_3`, ... if it is taken."""
    names = (name, *(f"{name}_{n}" for n in range(2, 1_000)))
    return next(one for one in names if one not in taken)


def _load_weights(backbone: Backbone, path: Path, rename: Callable[[str], str]) -> None:
    stored = read_weights(path)
    tensors = {rename(name): array for name, array in stored.items()}
    if len(tensors) < len(stored):
        twice = Counter(map(rename, stored)).most_common(1)[0][0]
        raise BackboneError(f"{path} holds {twice!r} twice, under two names; keep one of them")
    tensors = {n: a for n, a in tensors.items() if not n.endswith("num_batches_tracked")}
    own: dict[str, torch.Tensor] = dict(backbone.blocks.state_dict())
    if backbone.classifier is not None:
        own.update({f"classifier.{n}": t for n, t in backbone.classifier.state_dict().items()})
    own = {n: t for n, t in own.items() if not n.endswith("num_batches_tracked")}
    odd = sorted(set(tensors) ^ set(own))
    if odd:
        where = "only in the file" if odd[0] in tensors else "missing from the file"
        raise BackboneError(
            f"{path} does not fit {backbone.name}: {odd[0]!r} is {where} ({len(odd)} such tensors)"
        )
    for name, tensor in own.items():
        if tuple(tensor.shape) != tensors[name].shape:
            raise BackboneError(
                f"{path} does not fit {backbone.name}: {name!r} has shape {tensors[name].shape}, "
                f"not {tuple(tensor.shape)}"
            )
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(tensors[name].astype(np.float32)))
    for name, tensor in own.items():  # a module that is used twice has two names
        if not np.array_equal(tensor.numpy(), tensors[name].astype(np.float32), equal_nan=True):
            raise BackboneError(
                f"{path} does not fit {backbone.name}: {name!r} is used under another name too, "
                "with other values"
            )


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file, and multiply int8 weights by their scales."""
    if path.suffix != ".safetensors":
        raise BackboneError(
            f"{path} is not a .safetensors file; convert the weights, pickles are refused"
        )
    try:
        tensors = load_safetensors(path.read_bytes())
    except OSError as error:
        raise BackboneError(f"cannot read {path}: {error.strerror}") from None
    except SafetensorError as error:
        raise BackboneError(f"{path} is not a valid safetensors file ({error})") from None
    except KeyError as error:  # a type that NumPy does not have
        raise BackboneError(
            f"{path} holds tensors of type {error}; save them as F32 or F16"
        ) from None
    for name in [n for n in tensors if n.endswith(".weight_q")]:
        stem = name.removesuffix("_q")
        quantised = tensors.pop(name).astype(np.float32)
        scale = tensors.pop(f"{stem}_scale", None)
        if scale is None:
            raise BackboneError(f"{path} holds {name!r} without {f'{stem}_scale'!r}; add the scale")
        tensors[stem] = quantised * scale.reshape(-1, *[1] * (quantised.ndim - 1))
    return tensors
