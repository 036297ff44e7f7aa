"""AdaptConfig and Recipe: what to learn with and what to export, frozen. Knows TOML, no network."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from plr_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20}
_UNITS["GIB"] = 2**30


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """How a robot learns.

    Attributes:
        schedule: a name, or shares separated by commas.
        step_costs: seconds of one training step at each level, for the schedule `measured`.
        memory_bytes: budget of the latent memory.
        bits: of a stored latent, 8 or 4.
        pool: side to which stored maps are pooled, None for as they are.
        train_ratio: multiply-adds that training may spend for each one of perception.
        new_per_step: frames of the newest ones in a training step.
        rehearsed_per_step: samples of the latent memory in a training step.
        classifier_lr: learning rate of the classifier.
        blocks_lr: learning rate of the adaptive blocks.
        momentum: of SGD.
        max_age_steps: training steps after which a cached feature is computed anew.
        cache_bytes: budget of the derived cache of deeper features, in RAM only.
        publish_growth: a new generation is published when so many times more frames were taught
            than at the last one.
        ridge_strength: regularisation of the fast classifier, see `Ridge`; None for its default.
        unknown_quantile: share of remembered frames that may fall below the `unknown` threshold.
        chunk: frames that pass through the engines together; live streams use 1.
        seed: of everything random.
        n_threads: of the engines and of torch.
    """

    schedule: str = "progressive"
    step_costs: tuple[float, ...] | None = None
    memory_bytes: int = 8_000_000
    bits: int = 4
    pool: int | None = None
    train_ratio: float = 0.1
    new_per_step: int = 16
    rehearsed_per_step: int = 48
    classifier_lr: float = 0.02
    blocks_lr: float = 0.002
    momentum: float = 0.9
    max_age_steps: int = 500
    cache_bytes: int = 160_000_000
    publish_growth: float = 1.5
    ridge_strength: float | None = None
    unknown_quantile: float = 0.01
    chunk: int = 16
    seed: int = 0
    n_threads: int = 1

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "new_per_step", "rehearsed_per_step", "chunk", "n_threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("classifier_lr", "blocks_lr"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.train_ratio < 0:
            raise ConfigError(f"train_ratio is {self.train_ratio}; it must be at least 0")
        if self.publish_growth <= 1.0:
            raise ConfigError(f"publish_growth is {self.publish_growth}; it must be above 1")
        if not 0.0 <= self.unknown_quantile < 1.0:
            raise ConfigError(f"unknown_quantile is {self.unknown_quantile}; it must lie in 0..1")


def parse_bytes(text: str) -> int:
    """Read a size such as `8MB`, `500KB` or `64MiB`.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in _UNITS:
        raise ConfigError(f"size is {text[:40]!r}; write it like 8MB, 500KB or 64MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to export; None leaves the choice to the backbone.

    Attributes:
        backbone: a built-in name, or `package.module:function`.
        weights: a safetensors file.
        cut: the first adaptive block.
        input_size: height and width of the input.
    """

    backbone: str = "mobilenet_v2"
    weights: Path | None = None
    cut: str | None = None
    input_size: int | None = None


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML; a path to weights in it is relative to the file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a .toml recipe") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML ({' '.join(str(error).split())[:120]})") from None
    types = {"backbone": str, "weights": str, "cut": str, "input_size": int}
    for name, value in facts.items():
        if name not in types or type(value) is not types[name]:
            names = ", ".join(field.name for field in fields(Recipe))
            raise ConfigError(
                f"{path}: {name[:40]} = {str(value)[:40]!r} is no part of a recipe; "
                f"it holds {names}"
            )
    if "weights" in facts:
        facts["weights"] = path.parent / facts["weights"]
    return Recipe(**facts)
