"""Source: where a network comes from and what it takes, from options, a recipe or a bundle."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import ConfigError
from plr_edge.export.libraries import LIBRARIES, Made
from plr_edge.export.recipe import Recipe

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
    wanted = " or ".join(map(str, counts))
    says = f"--{option} is {text[:40]!r}; give {wanted} numbers with {between!r} between them"
    try:
        found = tuple(kind(part) for part in text.split(between))
    except ValueError:
        raise ConfigError(says) from None
    if len(found) not in counts or not all(map(math.isfinite, found)):
        raise ConfigError(says)
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
            known["input_shape"] = own  # only a square has other sizes
            return Source(backbone=name, weights=weights, **known)
        return Source(backbone=name, weights=weights, **{**known, "input_size": input_size})
    return Source(backbone=name, weights=weights, **{**known, "input_size": None})


def preprocessing_of(source: Source, made: Made, own: tuple[int, ...] | None) -> Preprocessing:
    """Return how an image becomes the input, as given, else as the network's library says.

    Args:
        source: the options that were given.
        made: what the library says.
        own: shape of the input that an .onnx file has.

    Raises:
        ConfigError: a value is not allowed, or does not fit the shape.
    """
    size = source.input_size
    given = (own, source.input_shape, None if size is None else (3, size, size), made.input_shape)
    shape = next((one for one in given if one is not None), (3, _SIZE, _SIZE))
    colour = len(shape) == 3 and shape[0] == 3
    mean = made.mean if source.mean is None else source.mean
    std = made.std if source.std is None else source.std
    if mean is None and std is None and source.value_range is None:
        mean, std = _IMAGENET if colour else _GREY
        _log.warning(
            "%s: no preprocessing is given, so that of ImageNet is used; give what the network was "
            "trained with by --mean, --std and --range", source.backbone,
        )  # fmt: skip
    n = 3 if colour else 1
    mean = (0.0,) if mean is None else mean
    std = (1.0,) if std is None else std
    low, high = (0.0, 1.0) if source.value_range is None else source.value_range
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


def check_source(source: Source) -> None:
    """Raise a ConfigError for options that exclude each other or do not fit the network."""
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


def graph_options(source: Source) -> list[str]:
    """Return the options that were given and are for networks that come in as a graph."""
    given = replace(source, weights=None, input_size=None)
    return [n for n, v in vars(given).items() if n != "backbone" and v not in (None, False)]


def refuse_graph_options(source: Source, why: str) -> None:
    """Refuse options that a network with its own preprocessing and blocks does not take."""
    rest = graph_options(source)
    if rest:
        option = rest[0].replace("value_range", "range").replace("_", "-")
        raise ConfigError(f"--{option} cannot be used, as {source.backbone} {why}; leave it out")
