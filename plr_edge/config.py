"""Settings of learning and of exporting, frozen, with their defaults. Knows TOML, no network."""

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

_CHOICES = {
    "form": ("slices", "steps"),
    "generator": ("vae", "gaussian"),
    "targets": ("distilled", "labels", "classes"),
    "generator_levels": ("all", "drawn"),
    "unbias": ("none", "gradient", "rate", "inverse rate"),
    "level_order": ("random", "ascending"),
}
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
        canary: labels held out, at most, to judge generations by.
        label_bytes: of latents of past labels to keep on disk, so that they can be undone.
        write_bytes_per_day: beyond it no generation is written until the next day, except at the
            end; labels always are.
        allow_code: import the code that a bundle's backbone names, though the bundle is unsigned.
        chunk: frames that pass through the engines together; live streams use 1.
        seed: of everything random.
        n_threads: of the engines and of torch.
        engine: of the frozen part: `onnx` or `tensorrt`.
        providers: of ONNX Runtime, best first: `cpu`, `cuda`, `tensorrt`.
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
    canary: int = 400
    label_bytes: int = 64 << 20
    write_bytes_per_day: int = 10 * 10**9
    allow_code: bool = False
    chunk: int = 16
    seed: int = 0
    n_threads: int = 1
    engine: str = "onnx"
    providers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "memory_bytes",
            "new_per_step",
            "rehearsed_per_step",
            "canary",
            "chunk",
            "n_threads",
        ):
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


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig:
    """How to rehearse from a generator.

    Attributes:
        hidden: widths of the hidden layers of the classifier; the decoder mirrors them.
        z_width: of the generator's code.
        schedule: a name, or shares separated by commas.
        form: `slices` divides each replay batch over the levels (the paper); `steps` draws one
            level for each step, at which new data enters too.
        truncate: decode only to the level needed; the authors decode to level 1 for every sample.
        same_level_targets: the previous classifier answers at the level of entry; the authors
            answer at level 1 for every sample.
        recompute: generate at level 1 and run the blocks below the entry forward, instead of
            entering what the previous generator takes for features of that level.
        generator: `vae`, or `gaussian`: class means and a shared covariance, with `recompute`.
        generator_every: steps from one training step of the generator to the next.
        generator_levels: `all`, or `drawn`: with feedback and steps, train the stages from the
            drawn level up only.
        feedback: classifier and encoder share the trunk (replay through feedback).
        gated_share: of the decoder's hidden units that each class switches off.
        conditional_prior: one mode of the prior a class.
        fitted_modes: the modes follow the moments of their class's codes, instead of gradients.
        residual: samples carry noise of the covariance that the decoder leaves unexplained.
        targets: of what is rehearsed: `distilled`, the previous classifier's answers at a
            temperature; `labels`, the class it answers; `classes`, the class that was asked for,
            which needs no pass of the previous classifier.
        unbias: `none`; `gradient` weighs the rehearsal gradient of block l by 1 / u_l; `rate`
            multiplies the learning rate of block l by u_l, and `inverse rate` divides it by u_l.
        level_order: of the levels of entry in the form `steps`: `random`, or `ascending` within an
            experience, which leaves blocks still once all above them are being trained.
        batch: new samples in a step.
        rehearsed: generated samples in a step.
        lr: of Adam.
        seed: of everything random.
    """

    hidden: tuple[int, ...] = (2000, 2000)
    z_width: int = 100
    schedule: str = "internal"
    form: str = "slices"
    truncate: bool = False
    same_level_targets: bool = False
    recompute: bool = False
    generator: str = "vae"
    generator_every: int = 1
    generator_levels: str = "all"
    feedback: bool = False
    gated_share: float = 0.0
    conditional_prior: bool = True
    fitted_modes: bool = False
    residual: bool = False
    targets: str = "distilled"
    unbias: str = "none"
    level_order: str = "random"
    batch: int = 256
    rehearsed: int = 256
    lr: float = 1e-4
    temperature: float = 2.0
    kl_weight: float = 1 / 3072
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be one of {allowed}")
        if self.generator_levels == "drawn" and not (self.feedback and self.form == "steps"):
            raise ConfigError("generator_levels 'drawn' needs feedback and the form 'steps'")
        if self.generator == "gaussian" and (self.feedback or not self.recompute):
            raise ConfigError("generator 'gaussian' needs recompute, and no feedback")


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
        static_feature: let the fast classifier read the feature of the network as exported too:
            better on kinds of objects, dearer by a second pass of the adaptive part.
        precision: of the frozen part: fp32, fp16 or int8.
    """

    backbone: str = "mobilenet_v2"
    weights: Path | None = None
    cut: str | None = None
    input_size: int | None = None
    static_feature: bool = False
    precision: str = "fp32"


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
    types = {"backbone": str, "weights": str, "cut": str, "input_size": int, "static_feature": bool,
             "precision": str}  # fmt: skip
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
