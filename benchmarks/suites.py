"""The lists of scenarios and methods that the pages show."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.data.datasets import DATASETS, find_dataset
from benchmarks.data.encoders import BIR, PIXELS
from benchmarks.methods.generated_methods import GENERATED, SWITCHES
from benchmarks.methods.registry import CEILING, METHODS
from benchmarks.runner import Cell
from benchmarks.scenarios import Scenario, check_order
from plr_edge.errors import ConfigError

_RAW = "raw replay, whole network"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What one command runs.

    Attributes:
        name: name of the command and of its results.
        help: first line of the command's help.
        full: scenarios.
        quick: scenarios of `--quick`, for one seed and without slow methods.
        methods: names; every method that fits by default.
        seeds: seeds of the scenarios in `thorough`; the others run one.
        thorough: scenarios with more seeds and with the replay of raw images.
        one_seed: methods that run one seed everywhere.
        tuned: uses the settings that `--tune` chose; else every method has its default.
    """

    name: str
    help: str
    full: tuple[Scenario, ...]
    quick: tuple[Scenario, ...]
    methods: tuple[str, ...] = ()
    seeds: int = 3
    thorough: tuple[Scenario, ...] = ()
    one_seed: tuple[str, ...] = ()
    tuned: bool = False


_MAIN = (
    Scenario(dataset="cifar100", per_class=20),
    Scenario(dataset="grocery", per_class=20),
    Scenario(dataset="grocery"),
    Scenario(dataset="cifar100"),
)
_STREAM = Scenario(dataset="cifar100", per_class=100)
_GENERATED = (
    Scenario(dataset="cifar100", encoder=BIR),
    Scenario(dataset="mnist-all", encoder=PIXELS, n_experiences=5),
)
_WIDE = Scenario(dataset="cifar100", encoder=BIR, profile="wide")
_WIDE_ONLY = re.compile("tuned|frozen|random block|over the latent")
_WIDE_ONCE = (
    "plr frozen, gaussian, 1000 steps", "internal, gaussian, tuned, 1000 steps",
    "plr basic, repaired VAE, slices", "internal, repaired VAE",
)  # fmt: skip
SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="compare",
            help="Run every method over every stream.",
            full=(
                *_MAIN,
                Scenario(dataset="fruits", order="blocks"),
                Scenario(dataset="fruits-axes", order="blocks"),
                Scenario(dataset="eth80", n_experiences=0, per_class=20),
                Scenario(dataset="mnist", n_experiences=5, per_class=20),
                Scenario(dataset="cifar100", per_class=1),
                Scenario(dataset="cifar100", per_class=5),
                Scenario(dataset="cifar100", n_experiences=20, per_class=20),
                Scenario(dataset="cifar100", n_experiences=0, per_class=20),
                Scenario(dataset="cifar100", order="iid", per_class=20),
                Scenario(dataset="cifar100", order="blocks", per_class=20),
                Scenario(dataset="cifar100", order="long tail", per_class=100),
                Scenario(dataset="cifar100", per_class=20, noise=0.1),
                Scenario(dataset="cifar100", per_class=20, noise=0.2),
                Scenario(dataset="grocery", per_class=1),
                Scenario(dataset="grocery", per_class=5),
            ),
            quick=(
                Scenario(dataset="grocery", per_class=5),
                Scenario(dataset="fruits-axes", per_class=5),
                Scenario(dataset="eth80", n_experiences=0, per_class=20),
                Scenario(dataset="mnist", n_experiences=5, per_class=20),
            ),
            thorough=_MAIN,
            tuned=True,
        ),
        Suite(
            name="streams",
            help="Run the main methods over real streams in their own order.",
            full=(
                _STREAM,
                Scenario(dataset="fruits", order="given"),
                Scenario(dataset="fruits-axes", order="given"),
                Scenario(dataset="grocery", order="given"),
            ),
            quick=(Scenario(dataset="grocery", order="given", per_class=5),),
            methods=(
                "nearest class mean", "streaming LDA", "ridge", "ridge + mid-level",
                "fast classifier", "naive fine-tuning", "plr (default budget)", "plr",
                "internal replay", CEILING,
            ),
            thorough=(_STREAM,),
        ),
        Suite(
            name="generated",
            help="Compare rehearsal of generated latents, experience by experience.",
            full=_GENERATED,
            quick=(replace(_GENERATED[1], per_class=200),),
            methods=(
                *(name for name in GENERATED if not _WIDE_ONLY.search(name)),
                "nearest class mean", "streaming LDA", "ridge", "random-feature ridge",
            ),
            thorough=_GENERATED,
        ),
        Suite(
            name="wide",
            help="Compare rehearsal of generated latents where the layers are wide.",
            full=(_WIDE,),
            quick=(replace(_WIDE, per_class=20),),
            methods=(
                "plr frozen, gaussian", "plr frozen, mixture", "internal, gaussian, tuned",
                "internal, gaussian, tuned, one layer", "LDA over a random block", "streaming LDA",
                "random-feature ridge", "LDA over latent and random block",
                "mixture over the latent", "mixture over latent and random block",
                "plr layer_idx, gaussian, tuned", "mlp, joint", "plr basic, gaussian, tuned",
                "plr frozen, mixture, steps", "plr frozen, mixture, both", *_WIDE_ONCE,
            ),
            thorough=(_WIDE,),
            one_seed=_WIDE_ONCE,
        ),
        Suite(
            name="switches",
            help="Measure each switch of generated rehearsal by itself.",
            full=(_GENERATED[0],),
            quick=(replace(_GENERATED[1], per_class=100),),
            methods=tuple(SWITCHES),
        ),
    )
}  # fmt: skip


def choose(
    suite: Suite,
    *,
    quick: bool = False,
    datasets: Sequence[str] = (),
    orders: Sequence[str] = (),
    frames: Sequence[int | None] = (),
    experiences: int | None = None,
    noises: Sequence[float] = (),
) -> tuple[Scenario, ...]:
    """Return the scenarios of a suite, or all combinations of what is given.

    Raises:
        ConfigError: there is no such data set or order, or no scenario is left.
    """
    for name in datasets:
        find_dataset(name)
    for order in orders:
        check_order(order)
    listed = suite.quick if quick else suite.full
    others = any(name not in DATASETS for name in datasets)
    if not (orders or frames or noises or others or experiences is not None):
        chosen = tuple(one for one in listed if not datasets or one.dataset in datasets)
        if not chosen:
            raise ConfigError(f"no stream of `{suite.name}` is of {', '.join(datasets)}")
        return chosen
    names = datasets or tuple(dict.fromkeys(one.dataset for one in listed))
    combinations = itertools.product(
        names, orders or ("classes",), frames or (20,), noises or (0.0,)
    )
    n_experiences = 10 if experiences is None else experiences
    return tuple(
        Scenario(dataset=name, order=order, per_class=n, noise=noise, n_experiences=n_experiences)
        for name, order, n, noise in combinations
    )


def cells(
    suite: Suite,
    scenarios: Sequence[Scenario],
    methods: Sequence[str],
    *,
    quick: bool,
    seeds: int | None,
) -> list[Cell]:
    """Return the runs of a suite: one seed of everything first, and what runs one seed last.

    Args:
        suite: which scenarios are thorough, and its methods.
        scenarios: from `choose`.
        methods: names; the suite's by default.
        quick: one seed, and no slow method unless it is named.
        seeds: number of seeds of every scenario; by default as the suite says.
    """
    listed = suite.methods or tuple(METHODS)
    found = []
    for scenario in scenarios:
        thorough = scenario in suite.thorough
        n_seeds = seeds or (suite.seeds if thorough and not quick else 1)
        for name in methods or listed:
            spec = METHODS[name]
            left_out = (quick and spec.slow) or (name == _RAW and not thorough)
            if spec.fits(scenario.encoder) and not (left_out and name not in methods):
                n = 1 if name in suite.one_seed and not seeds else n_seeds
                found += [Cell(name, scenario, seed) for seed in range(n)]
    return sorted(found, key=lambda cell: (cell.method in suite.one_seed, cell.seed))  # stable
