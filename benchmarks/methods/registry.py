"""Every method by name. A new one is a class like `Method` and a line here."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.methods.ar1 import Ar1
from benchmarks.methods.base import Method
from benchmarks.methods.feature_classifiers import FEATURE_CLASSIFIERS, OnFeature
from benchmarks.methods.generated_methods import GENERATED, SWITCHES
from benchmarks.methods.plr import INTERNAL, PLR, PlrEdge
from benchmarks.methods.raw_replay import RawReplay
from benchmarks.methods.rehearsal import Joint, Naive, remind_learner
from benchmarks.methods.spec import Spec
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError

CEILING = "joint training"  # learns when everything has come, and has no answer before
AR1 = "AR1-like latent replay"


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
    "plr (default budget), generated": _plr(rehearse="generated"),
    "plr, generated": _plr(rehearse="generated", **PLR),
    CEILING: Spec(make=Joint, most_frames=_HOURS, tunable=_BLOCKS_LR),
}  # fmt: skip

METHODS |= GENERATED | SWITCHES
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
