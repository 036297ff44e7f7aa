"""Every method by name. A new one is a class like `Method` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.data.encoders import MOBILENET
from benchmarks.methods.ar1 import Ar1
from benchmarks.methods.base import Method
from benchmarks.methods.feature_classifiers import FEATURE_CLASSIFIERS, OnFeature, VaePerClass
from benchmarks.methods.gaussian_rehearsal import GaussianRehearsal
from benchmarks.methods.mlp import GeneratedRehearsal, MlpJoint, MlpNaive, StoredRehearsal
from benchmarks.methods.plr import INTERNAL, PLR, PlrEdge
from benchmarks.methods.raw_replay import RawReplay
from benchmarks.methods.rehearsal import Joint, Naive, remind_learner
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError

CEILING = "joint training"  # learns when everything has come, and has no answer before
AR1 = "AR1-like latent replay"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How a method is made, and what is known of it.

    Attributes:
        make: benchmark, config, tuned settings -> method.
        vectors: needs latents that are vectors; else a bundle.
        anything: runs on both.
        ours: a setting of plr-edge.
        slow: left out of quick runs.
        most_frames: longest stream that is tried.
        most_tested: held-out frames of the final accuracy, None for all.
        tunable: name and default of the setting that `--tune` chooses; the other methods choose
            theirs on the stream itself.
    """

    make: Callable[..., Method]
    vectors: bool = False
    anything: bool = False
    ours: bool = False
    slow: bool = False
    most_frames: int | None = None
    most_tested: int | None = None
    tunable: tuple[str, float] | None = None

    def fits(self, encoder: str) -> bool:
        """Whether a method runs on what an encoder returns."""
        return self.anything or self.vectors == (encoder != MOBILENET)


_TUNABLE = {"naive Bayes": ("floor", 0.1), "naive linear classifier": ("lr", 0.1),
            "feature replay": ("lr", 0.3)}  # fmt: skip
_BLOCKS_LR = ("blocks_lr", 0.002)
_HOURS = 20_000  # frames beyond which a slow method takes more than half an hour


def _plr(**options: Any) -> Spec:
    tunable = _BLOCKS_LR if options.get("train_ratio") == PLR["train_ratio"] else None
    return Spec(make=partial(PlrEdge, **options), ours=True, tunable=tunable)


METHODS: dict[str, Spec] = {
    **{
        name: Spec(make=partial(OnFeature, classifier=name), anything=True,
                   tunable=_TUNABLE.get(name))
        for name in FEATURE_CLASSIFIERS
    },
    "ridge + mid-level": Spec(make=partial(OnFeature, classifier="ridge", read="taps")),
    "fast classifier": _plr(train_ratio=0.0),
    "fast classifier, static": _plr(train_ratio=0.0, static=True),
    "naive fine-tuning": Spec(make=Naive, tunable=_BLOCKS_LR),
    "raw replay, whole network": Spec(
        make=RawReplay, slow=True, most_frames=3000, most_tested=1000, tunable=("lr", 0.002)),
    AR1: Spec(make=Ar1, slow=True, most_frames=_HOURS, tunable=("lr", 0.003)),
    "REMIND-like (PQ latents)": Spec(make=remind_learner, slow=True, tunable=_BLOCKS_LR),
    "internal replay": Spec(make=partial(PlrEdge, **INTERNAL), tunable=_BLOCKS_LR),
    "plr (default budget)": _plr(),
    "plr (default budget), static": _plr(static=True),
    "plr": _plr(**PLR),
    "plr, static": _plr(static=True, **PLR),
    "plr, generated": Spec(
        make=GaussianRehearsal, ours=True, slow=True, most_frames=_HOURS, tunable=_BLOCKS_LR),
    CEILING: Spec(make=Joint, most_frames=_HOURS, tunable=_BLOCKS_LR),
}  # fmt: skip

# the authors' generator needs thousands of steps; these three make one of a hundred usable
_REPAIRED: dict[str, Any] = {"fitted_modes": True, "residual": True, "gated_share": 0.6}
_STEPS: dict[str, Any] = {"form": "steps", "truncate": True, "same_level_targets": True}
_GAUSSIAN: dict[str, Any] = {"form": "steps", "truncate": True, "generator": "gaussian",
                             "recompute": True, "targets": "classes"}  # fmt: skip
_ASCENDING: dict[str, Any] = {**_GAUSSIAN, "level_order": "ascending", "unbias": "inverse rate"}


def _generated(**options: Any) -> Spec:
    return Spec(make=partial(GeneratedRehearsal, **options), vectors=True,
                ours=options.get("schedule") is not None)  # fmt: skip


def _stored(per_class: int | None, fast: bool = False) -> Spec:
    make = partial(StoredRehearsal, per_class=per_class, fast=fast)
    return Spec(make=make, vectors=True, ours=True)


METHODS |= {
    "mlp, naive": Spec(make=MlpNaive, vectors=True),
    "internal (authors' form)": _generated(),
    "plr basic (authors' form)": _generated(schedule="basic"),
    "bi-r": _generated(feedback=True, gated_share=0.7),
    "internal, repaired VAE": _generated(**_REPAIRED),
    "plr basic, repaired VAE, slices": _generated(schedule="basic", **_REPAIRED),
    "plr basic, repaired VAE, steps": _generated(schedule="basic", **_REPAIRED, **_STEPS),
    "plr layer_idx, repaired VAE, steps": _generated(
        schedule="layer_idx", generator_every=4, **_REPAIRED, **_STEPS),
    "plr cumulative_weights, repaired VAE, steps": _generated(
        schedule="cumulative_weights", generator_every=4, **_REPAIRED, **_STEPS),
    "internal, repaired VAE, feedback": _generated(feedback=True, **_REPAIRED),
    "plr basic, repaired VAE, steps, feedback": _generated(
        schedule="basic", feedback=True, generator_levels="drawn", **_REPAIRED, **_STEPS),
    "internal, gaussian": _generated(**_GAUSSIAN),
    "plr basic, gaussian": _generated(schedule="basic", **_GAUSSIAN),
    "plr basic, gaussian ascending": _generated(schedule="basic", **_ASCENDING),
    "plr layer_idx, gaussian": _generated(schedule="layer_idx", **_GAUSSIAN),
    "plr layer_idx, gaussian + fast": _generated(fast=True, schedule="layer_idx", **_GAUSSIAN),
    "plr stored, 2 a class": _stored(2),
    "plr stored, 5 a class": _stored(5),
    "plr stored, 10 a class": _stored(10),
    "plr stored, 20 a class": _stored(20),
    "plr stored, generator's bytes": _stored(None),
    "plr stored + fast, generator's bytes": _stored(None, fast=True),
    "generative classifier": Spec(make=VaePerClass, vectors=True),
    "mlp, joint": Spec(make=MlpJoint, vectors=True),
}  # fmt: skip
CEILINGS = (CEILING, "mlp, joint")


def make_method(
    name: str, benchmark: Benchmark, config: LearningConfig, tuned: dict[str, Any]
) -> Method:
    """Make a method by name, with what was chosen in tuning."""
    return METHODS[name].make(benchmark, config, **tuned)


def check_methods(names: tuple[str, ...]) -> None:
    """Refuse a method that does not exist.

    Raises:
        ConfigError: there is no such method.
    """
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"no method {name!r}; there are {', '.join(METHODS)}")
