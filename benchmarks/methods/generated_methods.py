"""The methods over latents that are vectors, most of which rehearse from a generator, by name."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

from benchmarks.methods.feature_classifiers import VaePerClass
from benchmarks.methods.generated_rehearsal import BlockStatistics, GeneratedRehearsal
from benchmarks.methods.mlp import MlpJoint, MlpNaive, StoredRehearsal
from benchmarks.methods.spec import Spec
from plr_edge.errors import ConfigError
from plr_edge.generative.config import GenerativeConfig

# the authors' generator needs thousands of steps; these three make one of a hundred usable
_REPAIRED: dict[str, Any] = {"fitted_modes": True, "residual": True, "gated_share": 0.6}
_STEPS: dict[str, Any] = {"form": "steps", "truncate": True, "same_level_targets": True}
_GAUSSIAN: dict[str, Any] = {"form": "steps", "truncate": True, "generator": "gaussian",
                             "recompute": True, "targets": "classes"}  # fmt: skip
_ASCENDING: dict[str, Any] = {**_GAUSSIAN, "level_order": "ascending", "unbias": "inverse rate"}
# what both sides get: new data weighs half, with the prior in the logits, and averaged weights
_TUNED: dict[str, Any] = {"new_share": 0.5, "averaged_share": 0.5}
_FROZEN: dict[str, Any] = {**_GAUSSIAN, "frozen_after": 1, "decayed": True}
_MODES = 16  # of each class in a mixture


def _generated(**options: Any) -> Spec:
    return Spec(make=partial(GeneratedRehearsal, **options), vectors=True, generated=True,
                ours=options.get("schedule") is not None)  # fmt: skip


def _frozen(**options: Any) -> Spec:
    make = partial(GeneratedRehearsal, **{**_FROZEN, **options})
    return Spec(make=make, vectors=True, generated=True, ours=True)


def _statistics(**options: Any) -> Spec:
    return Spec(make=partial(BlockStatistics, **options), vectors=True)


def _stored(per_class: int | None, fast: bool = False) -> Spec:
    make = partial(StoredRehearsal, per_class=per_class, fast=fast)
    return Spec(make=make, vectors=True, ours=True)


GENERATED: dict[str, Spec] = {
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
    "internal, gaussian, tuned": _generated(**_GAUSSIAN, **_TUNED),
    "internal, gaussian, tuned, one layer": _generated(
        hidden=(2000,), **_GAUSSIAN, **_TUNED),
    "plr basic, gaussian, tuned": _generated(schedule="basic", **_ASCENDING, **_TUNED),
    "plr layer_idx, gaussian, tuned": _generated(schedule="layer_idx", **_ASCENDING, **_TUNED),
    "plr frozen, gaussian": _frozen(answer="closed form"),
    "plr frozen, mixture": _frozen(answer="closed form", modes=_MODES, with_latent=True),
    "plr frozen, mixture, steps": _frozen(modes=_MODES, **_TUNED),
    "plr frozen, mixture, both": _frozen(
        answer="both", modes=_MODES, with_latent=True, **_TUNED),
    "LDA over a random block": _statistics(),
    "LDA over latent and random block": _statistics(with_latent=True),
    "mixture over the latent": _statistics(modes=_MODES, block=False),
    "mixture over latent and random block": _statistics(modes=_MODES, with_latent=True),
    "plr frozen, gaussian, 1000 steps": _frozen(answer="closed form", iterations=1000),
    "internal, gaussian, tuned, 1000 steps": _generated(
        iterations=1000, **_GAUSSIAN, **_TUNED),
    "plr stored, 2 a class": _stored(2),
    "plr stored, 5 a class": _stored(5),
    "plr stored, 10 a class": _stored(10),
    "plr stored, 20 a class": _stored(20),
    "plr stored, generator's bytes": _stored(None),
    "plr stored + fast, generator's bytes": _stored(None, fast=True),
    "generative classifier": Spec(make=VaePerClass, vectors=True),
    "mlp, joint": Spec(make=MlpJoint, vectors=True),
}  # fmt: skip

# one switch of `GenerativeConfig` at a time, everything else equal: base, then what is changed
_VAE_BASE: dict[str, Any] = {"schedule": "basic", **_REPAIRED, **_STEPS}
_GAUSSIAN_BASE: dict[str, Any] = {"schedule": "basic", **_GAUSSIAN}
_VAE_SWITCHES: dict[str, dict[str, Any]] = {
    "base": {},
    "schedule internal": {"schedule": "internal"},
    "form slices": {"form": "slices"},
    "truncate off": {"truncate": False},
    "same_level_targets off": {"same_level_targets": False},
    "recompute": {"recompute": True},
    "targets labels": {"targets": "labels"},
    "targets classes": {"targets": "classes"},
    "conditional_prior off": {"conditional_prior": False},
    "fitted_modes off": {"fitted_modes": False},
    "residual off": {"residual": False},
    "gated_share 0": {"gated_share": 0.0},
    "generator_every 4": {"generator_every": 4},
    "feedback": {"feedback": True},
    "feedback, generator_levels drawn": {"feedback": True, "generator_levels": "drawn"},
}
_GAUSSIAN_SWITCHES: dict[str, dict[str, Any]] = {
    "base": {},
    "schedule internal": {"schedule": "internal"},
    "schedule layer_idx": {"schedule": "layer_idx"},
    "form slices": {"form": "slices"},
    "form slices, unbias gradient": {"form": "slices", "unbias": "gradient"},
    "unbias rate": {"unbias": "rate"},
    "unbias inverse rate": {"unbias": "inverse rate"},
    "level_order ascending": {"level_order": "ascending"},
    "targets distilled": {"targets": "distilled"},
    "new_share 0.5": {"new_share": 0.5},
    "averaged_share 0.5": {"averaged_share": 0.5},
    "decayed": {"decayed": True},
    "frozen_after 1": {"frozen_after": 1},
    "frozen_after 1, modes 16": {"frozen_after": 1, "modes": _MODES},
    "frozen_after 1, closed form": {"frozen_after": 1, "answer": "closed form"},
    "frozen_after 3, closed form": {"frozen_after": 3, "answer": "closed form"},
    "frozen_after 1, closed form, with_latent": {
        "frozen_after": 1, "answer": "closed form", "with_latent": True},
}  # fmt: skip
SWITCHES = {
    **{f"vae: {name}": _generated(**{**_VAE_BASE, **change})
       for name, change in _VAE_SWITCHES.items()},
    **{f"gaussian: {name}": _generated(**{**_GAUSSIAN_BASE, **change})
       for name, change in _GAUSSIAN_SWITCHES.items()},
}  # fmt: skip


def read_switch(text: str) -> tuple[str, Any]:
    """Read `name=value`, a setting of `GenerativeConfig` or `iterations`.

    Raises:
        ConfigError: there is no such setting, or the value is not of its type.
    """
    name, _, value = text.partition("=")
    defaults: dict[str, Any] = {
        field.name: field.default
        for field in fields(GenerativeConfig)
        if field.name not in ("seed", "batch", "rehearsed")
    }
    defaults["iterations"] = 0
    if name not in defaults or not value:
        known = ", ".join(defaults)
        raise ConfigError(f"--set is {text[:60]!r}; write NAME=VALUE, with a name of {known}")
    default = defaults[name]
    try:
        if isinstance(default, bool):
            return name, {"true": True, "false": False}[value.lower()]
        if isinstance(default, tuple):
            return name, tuple(int(part) for part in value.split(","))
        return name, type(default)(value)
    except (ValueError, KeyError):
        like = "true" if isinstance(default, bool) else default
        raise ConfigError(f"--set is {text[:60]!r}; {name} takes a value like {like!r}") from None
