"""Settings of learning and of the engines, frozen, with their defaults."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

from plr_edge.errors import ConfigError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20}
_UNITS["GIB"] = 2**30
_MAX_BYTES = 2**62
_MAX_TRAIN_RATIO = 1000.0  # far more than a batch may be trained
_MAX_THREADS = 256
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """What a robot learns, and how. A state remembers it.

    Attributes:
        schedule: name of a schedule, or shares separated by commas. `auto` banks the
            multiply-adds of training while frames come, and spends them on the blocks at the end.
        step_costs: seconds of one training step at each level, for the schedule `measured`.
        memory_bytes: budget of the latent memory.
        rehearse: `stored`, from stored latents; or `generated`, from class statistics of the
            latents, in which case a state holds nothing of a single frame.
        bits: bits per value of a stored latent, 8 or 4.
        pool: side to which stored maps are pooled. None stores them as they are.
        window: side of the central part of stored maps that blocks are trained on and, once
            trained, answer with. 0 takes whole maps. None takes half their side, where the bundle
            allows it.
        train_ratio: multiply-adds that training may spend for each one of perception.
        new_per_step: newest frames in a training step.
        rehearsed_per_step: samples of the latent memory in a training step.
        classifier_lr: learning rate of the classifier.
        blocks_lr: learning rate of the adaptive blocks.
        momentum: momentum of SGD.
        max_age_steps: training steps after which a cached feature is recomputed.
        cache_bytes: budget of the feature cache, which lives in RAM only.
        publish_growth: growth of the number of taught frames after which the next candidate is
            evaluated, as a factor.
        ridge_strength: regularisation of the fast classifier, see `Ridge`. None for its default.
        false_unknown: share of the frames of known classes that may be answered with `unknown`.
        canary: most labels that are held out to evaluate candidates with.
        label_bytes: budget on disk for latents of past labels. They make undo possible.
        write_bytes_per_day: bytes after which no generation is written until the next day, except
            at the end. Labels are always written.
        chunk: frames that pass through the engines together. Live sources use 1.
        seed: random seed.
    """

    schedule: str = "auto"
    step_costs: tuple[float, ...] | None = None
    memory_bytes: int = 8_000_000
    rehearse: str = "stored"
    bits: int = 4
    pool: int | None = None
    window: int | None = None
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
    false_unknown: float = 0.01
    canary: int = 400
    label_bytes: int = 64 << 20
    write_bytes_per_day: int = 10 * 10**9
    chunk: int = 16
    seed: int = 0

    @property
    def keeps_samples(self) -> bool:
        """Whether a state may hold samples, and not only statistics of them."""
        return self.rehearse == "stored"

    @property
    def schedule_name(self) -> str:
        """The schedule while frames come: `schedule`, or that of `auto`, the classifier alone."""
        return "classifier" if self.schedule == "auto" else self.schedule

    @property
    def banked_ratio(self) -> float:
        """Part of `train_ratio` that is banked while frames come, and spent by consolidation."""
        return self.train_ratio if self.schedule == "auto" else 0.0

    @property
    def final_schedule(self) -> str:
        """The schedule of consolidation at the end of a stream."""
        return "internal" if self.schedule == "auto" else self.schedule

    @property
    def batch(self) -> int:
        """Samples of a training step."""
        return self.new_per_step + self.rehearsed_per_step

    def with_smaller_batches(self, divisor: int) -> LearningConfig:
        """Return settings that need less memory: batches and feature cache are smaller.

        Args:
            divisor: what the batches are divided by. The cache is divided by its square.
        """
        return replace(
            self,
            new_per_step=max(1, self.new_per_step // divisor),
            rehearsed_per_step=max(1, self.rehearsed_per_step // divisor),
            cache_bytes=self.cache_bytes // divisor**2,
        )

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "new_per_step", "rehearsed_per_step", "canary", "chunk"):
            _check_at_least_one(name, getattr(self, name))
        for name in ("max_age_steps", "cache_bytes", "label_bytes", "write_bytes_per_day"):
            _check_range(name, getattr(self, name), 0, _MAX_BYTES)
        if self.rehearse not in ("stored", "generated"):
            raise ConfigError(f"rehearse is {self.rehearse!r}; it must be stored or generated")
        _check_range("memory_bytes", self.memory_bytes, 1, _MAX_BYTES)
        _check_range("seed", self.seed, 0, _MAX_SEED)
        _check_range("train_ratio", self.train_ratio, 0, _MAX_TRAIN_RATIO)
        for name in ("classifier_lr", "blocks_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum is {self.momentum}; it must be at least 0 and below 1")
        if not 1.0 < self.publish_growth < math.inf:
            raise ConfigError(f"publish_growth is {self.publish_growth}; it must be above 1")
        if not 0.0 <= self.false_unknown < 1.0:
            raise ConfigError(
                f"false_unknown is {self.false_unknown}; it must be at least 0 and below 1"
            )
        if self.ridge_strength is not None and not 0 < self.ridge_strength < math.inf:
            raise ConfigError(
                f"ridge_strength is {self.ridge_strength}; it must be a number above 0"
            )


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What the networks run on. A state does not remember it.

    Attributes:
        engine: engine of the frozen part, `onnx` or `tensorrt`.
        providers: execution providers of ONNX Runtime, best first: `cpu`, `cuda`, `tensorrt`.
        n_threads: threads of the engines and of torch.
        allow_code: without effect, as the code of a network is not imported. Deprecated since 0.2.
    """

    engine: str = "onnx"
    providers: tuple[str, ...] = ()
    n_threads: int = 1
    allow_code: bool = False

    def __post_init__(self) -> None:
        _check_range("n_threads", self.n_threads, 1, _MAX_THREADS)
        if self.allow_code:
            warnings.warn(
                "allow_code has no effect: the code of a network is not imported",
                DeprecationWarning,
                stacklevel=3,
            )


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(LearningConfig):
    """`LearningConfig` and `EngineConfig` in one, as in 0.1. Deprecated since 0.2.

    Attributes:
        engine: see `EngineConfig`, as for the other attributes.
    """

    engine: str = "onnx"
    providers: tuple[str, ...] = ()
    n_threads: int = 1
    allow_code: bool = False

    def __post_init__(self) -> None:
        warnings.warn(
            "AdaptConfig is deprecated; use LearningConfig, and EngineConfig for engine, "
            "providers, n_threads and allow_code",
            DeprecationWarning,
            stacklevel=3,
        )
        self.split()

    def split(self) -> tuple[LearningConfig, EngineConfig]:
        """Return the two configurations that this one stands for.

        Raises:
            ConfigError: a value is not allowed.
        """
        learning = {f.name: getattr(self, f.name) for f in fields(LearningConfig)}
        engines = {f.name: getattr(self, f.name) for f in fields(EngineConfig)}
        return LearningConfig(**learning), EngineConfig(**engines)


def parse_share(text: str) -> float:
    """Read a share such as `2%` or `0.02`.

    Raises:
        ConfigError: the text is not a share below one.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else 1.0
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"share is {text[:40]!r}; write it like 2% or 0.02, below 100%")
    return share


def learning_config(
    latent_memory: str | None = None, false_unknown: str | None = None, **given: Any
) -> LearningConfig:
    """Return the settings of learning that were given, and the defaults of the others.

    Args:
        latent_memory: bytes for stored latents, e.g. 8MB. None for the default.
        false_unknown: share of the frames of known classes that may be `unknown`, e.g. 2%.
        given: further attributes of `LearningConfig`. None was not given.

    Raises:
        ConfigError: a value is not allowed.
    """
    if latent_memory is not None:
        given["memory_bytes"] = parse_bytes(latent_memory)
    if false_unknown is not None:
        given["false_unknown"] = parse_share(false_unknown)
    return LearningConfig(**{name: value for name, value in given.items() if value is not None})


def parse_bytes(text: str) -> int:
    """Read a size such as `8MB`, `500KB` or `64MiB`.

    Raises:
        ConfigError: the text is not a size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in _UNITS:
        raise ConfigError(f"size is {text[:40]!r}; write it like 8MB, 500KB or 64MiB")
    n_bytes = float(match[1]) * _UNITS[match[2].upper()]
    if not 1 <= n_bytes <= _MAX_BYTES:
        raise ConfigError(
            f"size is {text[:40]!r}; it must be at least 1B and at most 4294967296GiB"
        )
    return int(n_bytes)


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 1")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # NaN is in no range
        raise ConfigError(f"{name} is {value}; it must lie in {least:g}..{most:g}")
