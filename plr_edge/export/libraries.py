"""Networks of torchvision and timm, with the preprocessing that their weights were trained with.

`LIBRARIES` maps the names of libraries to how a network is made; add a new one there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from plr_edge.errors import BackboneError, load, one_line


@dataclass(frozen=True, kw_only=True)
class Made:
    """A network, and what it takes as far as that is known.

    Attributes:
        module: the network.
        input_shape: (C, H, W).
        mean: mean of each channel, where black is 0 and white is 1.
        std: standard deviation of each channel, in the same units.
    """

    module: nn.Module
    input_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def _torchvision(name: str, pretrained: bool) -> Made:
    models = load("torchvision.models", "torchvision", why=f"the network torchvision:{name}")
    _check_known("torchvision", name, models.list_models())
    weights = models.get_model_weights(name).DEFAULT
    module = _made("torchvision", name, models.get_model, weights=weights if pretrained else None)
    facts = weights.transforms()
    if not hasattr(facts, "crop_size"):
        return Made(module=module)
    size = facts.crop_size[0] if isinstance(facts.crop_size, (list, tuple)) else facts.crop_size
    return Made(
        module=module, input_shape=(3, size, size), mean=tuple(facts.mean), std=tuple(facts.std)
    )


def _timm(name: str, pretrained: bool) -> Made:
    timm = load("timm", "timm", why=f"the network timm:{name}")
    stem = name.split(".")[0]
    _check_known("timm", stem, timm.list_models())
    module = _made("timm", name, timm.create_model, pretrained=pretrained)
    facts = timm.data.resolve_data_config({}, model=module)
    return Made(
        module=module, input_shape=tuple(facts["input_size"]), mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
    )  # fmt: skip


def _check_known(library: str, name: str, known: list[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BackboneError(f"{library} has no network {name[:60]!r}{hint}")


def _made(library: str, name: str, make: Callable[..., Any], **options: Any) -> nn.Module:
    """Call the function of a library that makes a network."""
    try:
        module: nn.Module = make(name, **options)
    except Exception as error:  # e.g. a download that fails
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise BackboneError(
            f"{library} cannot make {name!r} ({reason}); without --pretrained nothing is downloaded"
        ) from error
    return module


LIBRARIES: dict[str, Callable[[str, bool], Made]] = {"torchvision": _torchvision, "timm": _timm}
