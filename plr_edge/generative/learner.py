"""GenerativeLearner: Progressive Latent Replay with generated latents, over vector levels.

It trains a classifier of fully connected blocks and a generator by a schedule.

Method: Pawlak et al., arXiv 2207.01562 (PLR), on top of Internal Replay (van de Ven et al., Nature
Communications 11:4069, 2020). The defaults of `GenerativeConfig` are the authors' form. Each of
its options changes one thing about it.

Shapes: B new samples in a step, n generated ones, D width of a level, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.generative.latent_generator import LatentGenerator
from plr_edge.generative.losses import class_prior, rehearsal_loss
from plr_edge.generative.mlp import MlpClassifier
from plr_edge.generative.rehearsal import PartCosts, PreviousNetworks, Replayed, make_generator
from plr_edge.generative.updates import Updates
from plr_edge.replay.schedule import apportion, fully_connected, make_schedule

_TRACK_EVERY = 4  # steps between updates of the residual covariance


class GenerativeLearner:
    """Train a classifier and a generator, experience by experience, without stored samples.

    Attributes:
        classifier: the classifier being trained.
        generator: the generator being trained.
        costs: multiply-adds and seconds by part.
        draw: source of randomness of what is generated.
        experience: number of experiences begun.
        n_steps: number of training steps.
        levels: levels of the classifier; set by `begin_experience`.
        schedule: share of the rehearsal per level; set by `begin_experience`.
    """

    def __init__(
        self,
        latent_width: int,
        config: GenerativeConfig,
        *,
        classifier: MlpClassifier | None = None,
        generator: GaussianGenerator | None = None,
        costs: PartCosts | None = None,
    ) -> None:
        """Start without classes.

        Args:
            latent_width: length of a latent vector.
            config: architecture and method.
            classifier: classifier to train; a new one by default.
            generator: generator to rehearse from; the configuration's by default.
            costs: costs to add to; from zero by default.
        """
        torch.manual_seed(config.seed)  # for the initial weights
        self.config = config
        self.widths = [latent_width, *config.hidden]
        self.classifier = classifier or MlpClassifier(self.widths)
        self.generator: Any = generator or make_generator(self.widths, config)
        self.costs = costs or PartCosts()
        self.experience, self.n_steps = 0, 0
        self.draw = torch.Generator().manual_seed(config.seed + 1)
        self._rng = np.random.default_rng([config.seed, 2])
        self._previous: PreviousNetworks | None = None
        self._levels_to_come: list[int] = []
        self._prior = torch.zeros(0)
        trained = self.generator if isinstance(self.generator, LatentGenerator) else None
        self._updates = Updates(self.classifier, trained, config)

    def begin_experience(
        self, n_classes: int, n_final: int | None = None, n_steps: int = 0
    ) -> None:
        """Copy both networks to rehearse from, and add classes.

        Args:
            n_classes: number of classes from here on, including old ones.
            n_final: number of classes that the schedule's costs assume; `n_classes` by default.
            n_steps: number of steps of this experience; needed for ascending levels, a decayed
                learning rate and averaged weights.
        """
        n_old = self.classifier.n_classes
        if self.experience:
            self._previous = PreviousNetworks(
                self.classifier, self.generator, self.config, self.costs
            )
            self._previous.freeze(self.draw)
        self.experience += 1
        new = [*self.classifier.grow(n_classes), *self.generator.grow(n_classes)]
        self.levels = fully_connected([*self.widths, n_classes if n_final is None else n_final])
        self.schedule = make_schedule(self.config.schedule, self.levels)
        self._prior = class_prior(n_old, n_classes - n_old, self.config.new_share)
        counts = [n_steps]
        if self.config.level_order == "ascending":
            counts = apportion(self.schedule.shares, n_steps)
            self._levels_to_come = np.repeat(np.arange(len(counts)), counts).tolist()
        phases = counts if n_old else [n_steps]
        self._updates.begin(new, phases, self.schedule.reach if self._previous else None)

    def end_experience(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Let a Gaussian generator learn the samples of the experience, each of them once.

        Args:
            x: (n, D) float32 latents.
            y: (n,) int64 labels.
        """
        if isinstance(self.generator, GaussianGenerator):
            with self.costs.timed("generator"):
                self.generator.learn_many(x, y)
                self.costs.macs["generator"] += x.numel() * x.shape[1]

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Run one training step on new and on generated samples.

        With feedback, the generator's loss is part of the pass that trains the classifier, and its
        time is counted there. Otherwise it is a part of its own.

        Args:
            x: (B, D) float32 new latents.
            y: (B,) int64 labels.
        """
        config, costs = self.config, self.costs
        draw = config.form == "steps" and self._previous is not None
        level = self._next_level() if draw else 0
        new_share = config.new_share if self._previous else 0.0
        share = new_share or 1.0 / self.experience  # weight of the new samples in the loss
        trained = config.generator != "gaussian"
        generate = trained and self.n_steps % config.generator_every == 0
        lowest = level if config.generator_levels == "drawn" else 0
        self._updates.clear()
        replayed = self._replay(level, 0 if generate and not lowest else None)
        with costs.timed("rehearsal"):
            for one in replayed:
                self._rehearse(one, (1 - share) / config.rehearsed, generate, lowest)
            if replayed and config.unbias == "gradient" and not draw:
                self._updates.divide_gradients(self.schedule.reach)
        with costs.timed("new data"):
            features = self._learn_new(x, y, level, share, generate, lowest)
        if generate and not config.feedback:
            with costs.timed("generator"):
                self._train_generator(features, y, share, replayed)
        with costs.timed("update"):
            costs.macs["update"] += self._updates.step()
        if generate and config.residual and self.n_steps % _TRACK_EVERY == 0:
            with costs.timed("generator"):
                answers = functional.one_hot(y, self.generator.n_classes).float()  # (B, K)
                self.generator.track(features, answers)
                macs = self.generator.encode_macs + self.generator.decode_macs(0)
                costs.macs["generator"] += len(y) * (macs + sum(w**2 for w in self.widths))
        self.n_steps += 1

    takes_steps = True

    @property
    def n_bytes(self) -> int:
        """Bytes of the generator."""
        return int(self.generator.n_bytes)

    def entering(self, x: torch.Tensor) -> torch.Tensor:
        """Return latents as they are, as `step` takes them; see `FrozenEarlyLearner`."""
        return x

    @torch.no_grad()
    def scores_many(self, x: torch.Tensor) -> np.ndarray:
        """Return logits (n, K) of latents (n, D)."""
        return np.asarray(self.classifier(x).numpy())

    def predict_many(self, x: torch.Tensor) -> np.ndarray:
        """Return the class index (n,) int64 of each latent (n, D)."""
        return np.asarray(self.scores_many(x).argmax(1))

    def _next_level(self) -> int:
        if self._levels_to_come:
            return self._levels_to_come.pop(0)
        return int(self._rng.choice(len(self.levels), p=self.schedule.shares))

    def _replay(self, drawn: int, lowest_needed: int | None) -> list[Replayed]:
        """Generate what this step rehearses; nothing in the first experience.

        Args:
            drawn: level of entry in the form `steps`.
            lowest_needed: see `PreviousNetworks.rehearse`.
        """
        if self._previous is None:
            return []
        counts = apportion(self.schedule.shares, self.config.rehearsed)
        if self.config.form == "steps":
            counts = [self.config.rehearsed if i == drawn else 0 for i in range(len(self.levels))]
        return self._previous.rehearse(counts, lowest_needed, self.draw)

    def _rehearse(self, one: Replayed, weight: float, generate: bool, lowest: int) -> None:
        """Add the gradient of the loss on generated samples.

        Args:
            one: the samples.
            weight: weight of one sample in the loss.
            generate: with feedback, train the generator too.
            lowest: level down to which the generator is trained.
        """
        level, old_features, targets = one
        macs = self.costs.macs
        if self.config.recompute:
            with torch.no_grad():
                entry = self.classifier.features(old_features[0])[level]  # (n, D)
            macs["rehearsal"] += len(entry) * self.classifier.macs_below(level)
        else:
            entry = old_features[level - (len(self.levels) - len(old_features))]  # (n, D)
        deepest = self.classifier.features(entry, level)[-1]  # (n, D)
        loss = weight * self._distance(self.classifier.logits(deepest), targets)
        macs["rehearsal"] += len(entry) * 3 * self.classifier.macs_from(level)
        if generate and self.config.feedback:
            if lowest != level:
                kept = old_features[-(len(self.levels) - lowest) :]
                deepest = self.classifier.features(kept[0], lowest)[-1]
                output_macs = self.classifier.block_macs(len(self.levels) - 1)
                trunk = self.classifier.macs_from(lowest) - output_macs
                macs["generator"] += len(entry) * 3 * trunk
            part = weight * len(entry)
            loss = loss + part * self._generator_loss(deepest, old_features, targets, lowest)
        loss.backward()  # type: ignore[no-untyped-call]

    def _learn_new(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        level: int,
        share: float,
        generate: bool,
        lowest: int,
    ) -> list[torch.Tensor]:
        """Add the gradient of the loss on new samples, which enter at a level.

        Returns:
            Their features (B, D) at every level, detached.
        """
        below: list[torch.Tensor] = []
        if level:
            with torch.no_grad():
                *below, x = self.classifier.features(x)[: level + 1]
        features = self.classifier.features(x, level)
        loss = functional.cross_entropy(self.classifier.logits(features[-1]) + self._prior, y)
        classifier = self.classifier
        macs = classifier.macs_below(level) + 3 * classifier.macs_from(level)
        self.costs.macs["new data"] += len(x) * macs
        whole = [*below, *(feature.detach() for feature in features)]
        if generate and self.config.feedback:
            answers = functional.one_hot(y, self.generator.n_classes).float()
            loss = loss + self._generator_loss(features[-1], whole, answers, lowest, soft=False)
        (share * loss).backward()  # type: ignore[no-untyped-call]
        return whole

    def _train_generator(
        self, features: list[torch.Tensor], y: torch.Tensor, share: float, replayed: list[Replayed]
    ) -> None:
        """Add the gradient of a generator with its own trunk, on new and generated features."""
        answers = functional.one_hot(y, self.generator.n_classes).float()
        loss = share * self._generator_loss(features[0], features, answers, 0, soft=False)
        for _, old_features, targets in replayed:
            part = len(targets) / self.config.rehearsed * (1 - share)
            loss = loss + part * self._generator_loss(old_features[0], old_features, targets, 0)
        loss.backward()  # type: ignore[no-untyped-call]

    def _generator_loss(
        self,
        encoded: torch.Tensor,
        features: list[torch.Tensor],
        answers: torch.Tensor,
        lowest: int,
        *,
        soft: bool = True,
    ) -> torch.Tensor:
        """Return the generator's loss on features of the levels from `lowest` up.

        Args:
            encoded: (n, D) what the encoder reads.
            features: (n, D) per level, the deepest last.
            answers: (n, K) logits, or shares of the classes if not soft.
            lowest: lowest level to reconstruct.
            soft: turn the logits into probabilities first.
        """
        generator = self.generator
        if soft:
            answers = functional.softmax(answers / self.config.temperature, dim=1)
        context = functional.pad(answers, (0, generator.n_classes - answers.shape[1]))
        kept = features[-(len(self.levels) - lowest) :]
        macs = generator.encode_macs + generator.decode_macs(lowest)
        self.costs.macs["generator"] += len(answers) * 3 * macs
        return generator.loss(generator.encode(encoded), kept, context, self.config.kl_weight)

    def _distance(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        temperature = self.config.temperature if self.config.targets == "distilled" else None
        return rehearsal_loss(logits + self._prior, targets, temperature)
