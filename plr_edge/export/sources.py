"""Networks by name: built-in, of torchvision or timm, of a user's function, or an .onnx file."""

from __future__ import annotations

import importlib
import logging
import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from plr_edge.backbones import BACKBONES, Backbone, from_sequential, load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.backbones.checks import check_finite
from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BackboneError, ConfigError, PlrEdgeError
from plr_edge.export.divided import divide
from plr_edge.export.libraries import LIBRARIES, Made
from plr_edge.export.onnx_source import network_of_file
from plr_edge.export.recipe import Recipe
from plr_edge.export.split import block_costs, split
from plr_edge.export.torch_source import network_of_module
from plr_edge.export.trainable import trouble_above
from plr_edge.export.weights import load_weights

_log = logging.getLogger(__name__)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = ((0.449,), (0.226,))  # the means of the three
_SIZE = 224
_T = TypeVar("_T", int, float)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a network comes from, and what it takes. None leaves the choice to the network.

    Attributes:
        backbone: built-in name, `torchvision:NAME`, `timm:NAME`, `package.module:function`, or a
            path that ends in `.onnx`.
        weights: safetensors or .pth file with the names of the original network.
        pretrained: let torchvision or timm load, or download, their own weights.
        input_size: height and width of the input in pixels.
        input_shape: shape of the input: (C, H, W), or (C, T) of a sequence.
        mean: mean of each channel, in units of `value_range`.
        std: standard deviation of each channel, in the same units.
        value_range: values of black and white before mean and std are applied.
        bgr: the network takes blue, green and red.
        layout: `nchw` or `nhwc`, the order of the axes of an .onnx file's input.
        feature: value or module whose output is the feature.
    """

    backbone: str
    weights: Path | None = None
    pretrained: bool = False
    input_size: int | None = None
    input_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: tuple[float, float] | None = None
    bgr: bool = False
    layout: str | None = None
    feature: str | None = None


def source_of(recipe: Recipe) -> Source:
    """Return the source that a recipe names.

    Raises:
        ConfigError: a list of numbers cannot be read.
    """
    shape, mean, std = recipe.input_shape, recipe.mean, recipe.std
    span = None if recipe.range is None else _numbers("range", recipe.range, float, (2,), "..")
    return Source(
        backbone=recipe.backbone, weights=recipe.weights, pretrained=recipe.pretrained,
        input_size=recipe.input_size,
        input_shape=None if shape is None else _numbers("input-shape", shape, int, (2, 3)),
        mean=None if mean is None else _numbers("mean", mean, float, (1, 3)),
        std=None if std is None else _numbers("std", std, float, (1, 3)),
        value_range=None if span is None else (span[0], span[1]),
        bgr=recipe.bgr, layout=recipe.layout, feature=recipe.feature,
    )  # fmt: skip


def _numbers(
    option: str, text: str, kind: type[_T], counts: tuple[int, ...], between: str = ","
) -> tuple[_T, ...]:
    """Return the numbers of an option, or raise a ConfigError."""
    try:
        found = tuple(kind(part) for part in text.split(between))
    except ValueError:
        found = ()
    if len(found) not in counts or not all(map(math.isfinite, found)):
        wanted = " or ".join(map(str, counts))
        raise ConfigError(
            f"--{option} is {text[:40]!r}; give {wanted} numbers with {between!r} between them"
        )
    return found


def source_of_bundle(bundle: Bundle, weights: Path | None, input_size: int) -> Source:
    """Return the source of the network of a bundle, for inputs of another size.

    Args:
        bundle: the bundle.
        weights: weights of the network, unless it holds or loads its own.
        input_size: height and width of the input in pixels.
    """
    known = dict(bundle.manifest.get("source", {}))
    for name in ("input_shape", "mean", "std", "value_range"):
        known[name] = tuple(known[name]) if known.get(name) else None
    name = known.pop("backbone", str(bundle.manifest["backbone"]))
    own = bundle.preprocessing.input_shape
    if input_size != bundle.preprocessing.size or known["input_shape"] is None:
        known["input_shape"] = None
        if own != (3, bundle.preprocessing.size, bundle.preprocessing.size):
            known["input_shape"] = own  # an input that is no square has one size only
            return Source(backbone=name, weights=weights, **known)
        return Source(backbone=name, weights=weights, **{**known, "input_size": input_size})
    return Source(backbone=name, weights=weights, **{**known, "input_size": None})


def load_network(source: Source, *, seed: int = 0) -> Backbone:
    """Return a network as a backbone.

    Args:
        source: where it comes from.
        seed: random seed of random weights.

    Raises:
        BackboneError: it is unknown, cannot be read or exported, or the weights do not fit.
        ConfigError: an option is not allowed, or not for this kind of network.
        MissingExtraError: torchvision or timm is not installed.
    """
    backbone = _loaded(source, seed)
    known = {n: v for n, v in vars(source).items() if v not in (None, False) and n != "weights"}
    return replace(backbone, source=known)


def _loaded(source: Source, seed: int) -> Backbone:
    name = source.backbone
    _check(source)
    if name.endswith(".onnx"):
        return _of_file(source)
    library, _, model = name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if library in LIBRARIES and model:
            made = LIBRARIES[library](model, source.pretrained)
            if source.weights is None and not source.pretrained:
                _log.warning("%s has random weights; give --weights FILE or --pretrained", name)
        elif model and name not in BACKBONES:
            given = _called(name)
            if isinstance(given, Backbone):
                _refuse_graph_options(source, "returns a Backbone")
                return load_backbone(name, weights=source.weights, input_size=source.input_size)
            made = Made(module=given)
        else:
            _refuse_graph_options(source, "is built in")
            return load_backbone(
                name, weights=source.weights, input_size=source.input_size, seed=seed
            )
    return _of_module(source, made)


def _of_module(source: Source, made: Made) -> Backbone:
    name, module = source.backbone, made.module.eval()
    if source.weights is not None:
        load_weights(name, module, source.weights)
    if type(module) is nn.Sequential and not _graph_options(source):
        return _of_sequential(source, made)
    return _of_graph(source, made)


def _of_sequential(source: Source, made: Made) -> Backbone:
    """Take the children of an `nn.Sequential` as blocks if they can be, else its graph."""
    assert isinstance(made.module, nn.Sequential)
    size = _SIZE if source.input_size is None else source.input_size
    try:
        backbone = from_sequential(source.backbone, made.module, size)
    except BackboneError as first:
        try:
            return _of_graph(source, made)
        except BackboneError:
            raise first from None
    check_finite(backbone.name, backbone.blocks)
    trouble = _trouble_with(backbone)
    if not trouble:
        return backbone
    try:
        return _of_graph(source, made)
    except BackboneError:
        return backbone  # the export says what is wrong with it


def _trouble_with(backbone: Backbone) -> bool:
    """Return whether blocks lose what the network does between them, or cannot all be trained."""
    folded = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
    shape = backbone.preprocessing.input_shape
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert isinstance(backbone.reference, nn.Module)
    with torch.no_grad():
        want, got = backbone.reference(x), folded.blocks(x)
    want = want.mean((2, 3)) if want.ndim == 4 else want
    _, shapes = block_costs(folded)
    cuts = folded.block_names[1:]
    return not torch.allclose(got, want, rtol=1e-3, atol=1e-5) or any(
        trouble_above(split(folded, cut)[1], shapes[cut]) for cut in cuts
    )


def _of_graph(source: Source, made: Made) -> Backbone:
    name, module = source.backbone, made.module
    preprocessing = _preprocessing(source, made, None)
    network = network_of_module(name, module, preprocessing.input_shape)
    return divide(name, network, preprocessing, lambda x: _first(name, module(x)), source.feature)


def _of_file(source: Source) -> Backbone:
    for option, value in (("weights", source.weights), ("pretrained", source.pretrained)):
        if value:
            raise ConfigError(f"--{option} is not for an .onnx file, which holds its weights")
    wanted = source.input_shape
    if source.input_size is not None:
        wanted = (3, source.input_size, source.input_size)
    path = Path(source.backbone)
    file = network_of_file(path, wanted, source.layout)
    if file.half:
        _log.warning("%s holds float16 weights; they are exported as float32", path)
    preprocessing = _preprocessing(source, Made(module=nn.Identity()), file.network.input_shape)
    return divide(path.name, file.network, preprocessing, file.run, source.feature)


def _called(name: str) -> nn.Module | Backbone:
    """Return what a user's function returns."""
    module_name, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module_name), function)()
    except PlrEdgeError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BackboneError(f"cannot get a backbone from {name!r} ({reason})") from error
    if isinstance(made, nn.Sequential) and not len(made):
        raise BackboneError(f"{name!r} returned an empty nn.Sequential; give at least one block")
    if not isinstance(made, (nn.Module, Backbone)):
        raise BackboneError(
            f"{name!r} returned a {type(made).__name__}; return an nn.Module or a Backbone"
        )
    return made


def _first(name: str, output: object) -> torch.Tensor:
    """Return the first tensor of what a network returns."""
    while isinstance(output, (tuple, list, dict)) and output:
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    if not isinstance(output, torch.Tensor):
        raise BackboneError(f"{name} returns a {type(output).__name__}; it must return a tensor")
    return output


def _preprocessing(source: Source, made: Made, own: tuple[int, ...] | None) -> Preprocessing:
    """Return how an image becomes the input, as given, else as the network's library says."""
    shape = own or source.input_shape or made.input_shape
    if source.input_size is not None and own is None:
        shape = (3, source.input_size, source.input_size)
    shape = shape or (3, _SIZE, _SIZE)
    colour = len(shape) == 3 and shape[0] == 3
    mean, std = (source.mean or made.mean), (source.std or made.std)
    if mean is None and std is None:
        if source.value_range is not None:
            mean, std = (0.0,) * (3 if colour else 1), (1.0,) * (3 if colour else 1)
        else:
            mean, std = _IMAGENET if colour else _GREY
            _log.warning(
                "%s: no preprocessing is given, so that of ImageNet is used; say what the network "
                "was trained with by --mean, --std and --range", source.backbone,
            )  # fmt: skip
    n = 3 if colour else 1
    mean, std = mean or (0.0,) * n, std or (1.0,) * n
    low, high = source.value_range or (0.0, 1.0)
    scale = 255.0 / (high - low)
    if {len(mean), len(std)} - {1, n}:
        raise ConfigError(f"--mean and --std need {n} numbers for inputs of shape {shape}")
    mean, std = mean * (n if len(mean) == 1 else 1), std * (n if len(std) == 1 else 1)
    square = colour and shape[1] == shape[2]
    return Preprocessing(
        size=shape[1],
        mean=tuple((m - low) * scale for m in mean),
        std=tuple(s * scale for s in std),
        shape=() if square else shape,
        bgr=bool(source.bgr),
    )


def _check(source: Source) -> None:
    if source.input_size is not None and source.input_shape is not None:
        raise ConfigError("--input-size and --input-shape exclude each other; give one of them")
    if source.value_range is not None and source.value_range[0] >= source.value_range[1]:
        raise ConfigError(f"--range is {source.value_range}; its first number must be the lower")
    if source.layout is not None and not source.backbone.endswith(".onnx"):
        raise ConfigError("--layout is for .onnx files; torch networks take (C, H, W)")
    library = source.backbone.partition(":")[0]
    if source.pretrained and library not in LIBRARIES and not source.backbone.endswith(".onnx"):
        raise ConfigError(f"--pretrained is for {' and '.join(LIBRARIES)}; give --weights FILE")
    if source.pretrained and source.weights is not None:
        raise ConfigError("--pretrained and --weights exclude each other; give one of them")


def _graph_options(source: Source) -> list[str]:
    """Return the options that were given and are for networks that come in as a graph."""
    given = replace(source, weights=None, input_size=None)
    return [n for n, v in vars(given).items() if n != "backbone" and v not in (None, False)]


def _refuse_graph_options(source: Source, why: str) -> None:
    """Refuse options that a network with its own preprocessing and blocks does not take."""
    rest = _graph_options(source)
    if rest:
        option = rest[0].replace("value_range", "range").replace("_", "-")
        raise ConfigError(f"--{option} cannot be used, as {source.backbone} {why}; leave it out")
