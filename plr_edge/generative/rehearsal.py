"""Where generated samples come from: the generator by its settings, and the previous networks.

Also holds `PartCosts`, the cost of training by part.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.generative.latent_generator import LatentGenerator
from plr_edge.generative.mlp import MlpClassifier

PARTS = ("new data", "decode", "targets", "rehearsal", "generator", "update")
_CERTAIN = 100.0  # logit of a class that is certain


def make_generator(widths: Sequence[int], config: GenerativeConfig) -> Any:
    """Return the generator that a configuration asks for.

    Args:
        widths: width of the latent and of each hidden layer.
        config: which generator, and its settings.

    Returns:
        A `LatentGenerator` or a `GaussianGenerator`.
    """
    if config.generator == "gaussian":
        return GaussianGenerator(widths[0])
    return LatentGenerator(
        [(width,) for width in widths],
        z_width=config.z_width,
        feedback=config.feedback,
        gated_share=config.gated_share,
        conditional_prior=config.conditional_prior,
        fitted_modes=config.fitted_modes,
        residual=config.residual,
        seed=config.seed,
    )


class PartCosts:
    """Cost of training by part; `PARTS` lists them.

    Attributes:
        macs: multiply-adds.
        seconds: wall-clock time.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self.macs, self.seconds = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time that the block takes to a part."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


class Replayed(NamedTuple):
    """Generated samples that enter at one level.

    Attributes:
        level: index of the level at which they enter.
        features: (n, D) per level, from some level at or below `level` to the deepest.
        targets: (n, K) logits of the previous classifier, or of the requested classes.
    """

    level: int
    features: list[torch.Tensor]
    targets: torch.Tensor


class PreviousNetworks:
    """Frozen copies of classifier and generator from the end of the previous experience."""

    def __init__(
        self, classifier: MlpClassifier, generator: Any, config: GenerativeConfig, costs: PartCosts
    ) -> None:
        """Copy both networks.

        Args:
            classifier: answers for generated samples.
            generator: a `LatentGenerator` or a `GaussianGenerator`.
            config: what is generated and how it is labelled.
            costs: where the cost of `freeze` and `rehearse` is added.
        """
        self.classifier: MlpClassifier = copy.deepcopy(classifier)
        self.generator: Any = copy.deepcopy(generator)
        self.config, self.costs = config, costs
        for network in (self.classifier, self.generator):
            if isinstance(network, nn.Module):
                network.requires_grad_(False)

    def freeze(self, draw: torch.Generator) -> None:
        """Prepare the generator for sampling."""
        with self.costs.timed("decode"):
            self.costs.macs["decode"] += self.generator.freeze(draw)

    def rehearse(
        self, counts: Sequence[int], lowest_needed: int | None, draw: torch.Generator
    ) -> list[Replayed]:
        """Generate samples and their targets.

        Args:
            counts: number of samples that enter at each level.
            lowest_needed: level down to which the generator's own training needs features; None
                if it is not trained in this step.
            draw: source of randomness.
        """
        config, costs, replayed = self.config, self.costs, []
        for level, n in enumerate(counts):
            if not n:
                continue
            at_entry = config.same_level_targets or config.targets == "classes"
            answered = level if at_entry and not config.recompute else 0  # level of the targets
            lowest = min(answered, level, *(() if lowest_needed is None else (lowest_needed,)))
            lowest = lowest if config.truncate else 0
            with costs.timed("decode"):
                classes = torch.randint(self.generator.n_classes, (n,), generator=draw)
                features = self.generator.sample_levels(classes, lowest, draw)
                costs.macs["decode"] += n * self.generator.decode_macs(lowest)
            with costs.timed("targets"), torch.no_grad():
                if config.targets == "classes":
                    one_hot = functional.one_hot(classes, self.classifier.n_classes)
                    targets = _CERTAIN * one_hot.float()
                else:
                    targets = self.classifier(features[answered - lowest], answered)
                    costs.macs["targets"] += n * self.classifier.macs_from(answered)
            replayed.append(Replayed(level, features, targets))
        return replayed
