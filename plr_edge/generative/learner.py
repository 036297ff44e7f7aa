"""GenerativeLearner: Progressive Latent Replay with generated latents, over vector levels.

Knows a classifier of fully connected blocks, a generator and a schedule; nothing of data or files.

Method: Pawlak et al., arXiv 2207.01562 (PLR), over Internal Replay (van de Ven et al., Nature
Communications 11:4069, 2020). `GenerativeConfig` says which of the parts is theirs; its defaults
are the authors' form, and each thing that their code leaves on the table is a switch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.generative.latent_generator import LatentGenerator
from plr_edge.generative.mlp import MlpClassifier
from plr_edge.replay.schedule import apportion, fully_connected, make_schedule

_CERTAIN = 100.0  # logit of a class that is certain
_RATE_POWERS = {"rate": 1, "inverse rate": -1}
_TRACK_EVERY = 4  # steps of the generator, of the residual covariance
PARTS = ("new data", "decode", "targets", "rehearsal", "generator", "update")
# level of entry, features up from some level, targets
Replayed = tuple[int, list[torch.Tensor], torch.Tensor]


class GenerativeLearner:
    """Train a classifier and a generator, experience by experience, without stored samples."""

    def __init__(self, latent_width: int, config: GenerativeConfig) -> None:
        """Start with no class; latents are vectors of `latent_width`."""
        torch.manual_seed(config.seed)  # of the layers' initial weights
        self.config = config
        self.widths = [latent_width, *config.hidden]
        self.classifier = MlpClassifier(self.widths)
        self.generator = self._make_generator()
        self.macs, self.seconds = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0.0)
        self.experience, self.n_steps = 0, 0
        self._draw = torch.Generator().manual_seed(config.seed + 1)
        self._rng = np.random.default_rng([config.seed, 2])
        self._old: tuple[MlpClassifier, Any] | None = None
        self._levels_to_come: list[int] = []
        self._optimizer = torch.optim.Adam(self.classifier.parameters(), lr=config.lr)
        if isinstance(self.generator, LatentGenerator):
            self._optimizer.add_param_group({"params": list(self.generator.parameters())})

    def _make_generator(self) -> Any:
        config = self.config
        if config.generator == "gaussian":
            return GaussianGenerator(self.widths[0])
        return LatentGenerator(
            [(width,) for width in self.widths],
            z_width=config.z_width,
            feedback=config.feedback,
            gated_share=config.gated_share,
            conditional_prior=config.conditional_prior,
            fitted_modes=config.fitted_modes,
            residual=config.residual,
            seed=config.seed,
        )

    def begin_experience(
        self, n_classes: int, n_final: int | None = None, n_steps: int = 0
    ) -> None:
        """Keep copies of both networks to rehearse from, and add classes.

        Args:
            n_classes: known from here on, old ones included.
            n_final: classes that the schedule's costs count; those of now by default.
            n_steps: of this experience; needed by ascending levels.
        """
        if self.experience:
            self._old = (copy.deepcopy(self.classifier), copy.deepcopy(self.generator))
            for network in self._old:
                if isinstance(network, nn.Module):
                    network.requires_grad_(False)
            with self._part("decode"):
                self.macs["decode"] += self._old[1].freeze(self._draw)
        self.experience += 1
        new = [*self.classifier.grow(n_classes), *self.generator.grow(n_classes)]
        new = [parameter for parameter in new if parameter.requires_grad]
        self._optimizer.add_param_group({"params": new})
        self.levels = fully_connected([*self.widths, n_final or n_classes])
        self.schedule = make_schedule(self.config.schedule, self.levels)
        if self.config.level_order == "ascending":
            counts = apportion(self.schedule.shares, n_steps)
            self._levels_to_come = np.repeat(np.arange(len(counts)), counts).tolist()
        if self.config.unbias in _RATE_POWERS and self._old:
            self._scale_rates(_RATE_POWERS[self.config.unbias])

    def end_experience(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add each sample of the experience to the sums of a Gaussian generator, once."""
        if isinstance(self.generator, GaussianGenerator):
            with self._part("generator"):
                self.generator.learn_many(x, y)
                self.macs["generator"] += x.numel() * x.shape[1]

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Run one training step on new latents (n, D) and labels (n,), and on rehearsed ones.

        With feedback the generator's loss is part of the pass that trains the classifier, and its
        time is counted there; without, it is a part of its own.
        """
        config = self.config
        draw = config.form == "steps" and self._old is not None
        level = self._next_level() if draw else 0
        share = 1.0 / self.experience
        trained = config.generator != "gaussian"
        generate = trained and self.n_steps % config.generator_every == 0
        lowest = level if config.generator_levels == "drawn" else 0
        self._optimizer.zero_grad(set_to_none=True)
        wanted = 0 if generate and not lowest else None
        replayed = self._generate(level, wanted) if self._old else []
        with self._part("rehearsal"):
            for one in replayed:
                self._rehearse(one, (1 - share) / config.rehearsed, generate, lowest)
            if replayed and config.unbias == "gradient" and not draw:
                self._unbias()
        with self._part("new data"):
            features = self._learn_new(x, y, level, share, generate, lowest)
        if generate and not config.feedback:
            with self._part("generator"):
                self._train_generator(features, y, share, replayed)
        with self._part("update"):
            self._optimizer.step()
        if generate and config.residual and self.n_steps % _TRACK_EVERY == 0:
            with self._part("generator"):
                answers = functional.one_hot(y, self.generator.n_classes).float()
                self.generator.track(features, answers)
                macs = self.generator.encode_macs + self.generator.decode_macs(0)
                self.macs["generator"] += len(y) * (macs + sum(w**2 for w in self.widths))
        self.n_steps += 1

    @torch.no_grad()
    def predict_many(self, x: torch.Tensor) -> np.ndarray:
        """Return the class index (n,) of each latent (n, D)."""
        return self.classifier(x).argmax(1).numpy()

    def _next_level(self) -> int:
        if self._levels_to_come:
            return self._levels_to_come.pop(0)
        return int(self._rng.choice(len(self.levels), p=self.schedule.shares))

    def _generate(self, drawn: int, wanted: int | None) -> list[Replayed]:
        """Sample what this step rehearses, with the previous classifier's answers to it.

        Args:
            drawn: level of entry, in the form `steps`.
            wanted: level down to which the generator's own training needs samples, if it does.
        """
        assert self._old is not None
        classifier, generator = self._old
        config = self.config
        counts = apportion(self.schedule.shares, config.rehearsed)
        if config.form == "steps":
            counts = [config.rehearsed if i == drawn else 0 for i in range(len(self.levels))]
        replayed = []
        for level, n in enumerate(counts):
            if not n:
                continue
            at = level if config.same_level_targets and not config.recompute else 0
            at = level if config.targets == "classes" and not config.recompute else at
            lowest = min(at, level, *(() if wanted is None else (wanted,)))
            lowest = lowest if config.truncate else 0
            with self._part("decode"):
                classes = torch.randint(generator.n_classes, (n,), generator=self._draw)
                features = generator.sample_levels(classes, lowest, self._draw)
                self.macs["decode"] += n * generator.decode_macs(lowest)
            with self._part("targets"), torch.no_grad():
                if config.targets == "classes":
                    targets = _CERTAIN * functional.one_hot(classes, classifier.n_classes).float()
                else:
                    targets = classifier(features[at - lowest], at)
                    self.macs["targets"] += n * self._macs_from(at, classifier.n_classes)
            replayed.append((level, features, targets))
        return replayed

    def _rehearse(self, one: Replayed, weight: float, generate: bool, lowest: int) -> None:
        level, old_features, targets = one
        if self.config.recompute:
            with torch.no_grad():
                entry = self.classifier.features(old_features[0])[level]
            n_below = sum(self._block_macs(i) for i in range(level))
            self.macs["rehearsal"] += len(entry) * n_below
        else:
            entry = old_features[level - (len(self.levels) - len(old_features))]
        deepest = self.classifier.features(entry, level)[-1]
        loss = weight * self._distance(self.classifier.logits(deepest), targets)
        self.macs["rehearsal"] += len(entry) * 3 * self._macs_from(level)
        if generate and self.config.feedback:
            if lowest != level:
                kept = old_features[-(len(self.levels) - lowest) :]
                deepest = self.classifier.features(kept[0], lowest)[-1]
                trunk = self._macs_from(lowest) - self._block_macs(len(self.levels) - 1)
                self.macs["generator"] += len(entry) * 3 * trunk
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
        """Train on new samples from a level up; returns their features at every level."""
        below: list[torch.Tensor] = []
        if level:
            with torch.no_grad():
                *below, x = self.classifier.features(x)[: level + 1]
        features = self.classifier.features(x, level)
        loss = functional.cross_entropy(self.classifier.logits(features[-1]), y)
        n_below = sum(self._block_macs(i) for i in range(level))
        self.macs["new data"] += len(x) * (n_below + 3 * self._macs_from(level))
        whole = [*below, *(feature.detach() for feature in features)]
        if generate and self.config.feedback:
            answers = functional.one_hot(y, self.generator.n_classes).float()
            loss = loss + self._generator_loss(features[-1], whole, answers, lowest, soft=False)
        (share * loss).backward()  # type: ignore[no-untyped-call]
        return whole

    def _train_generator(
        self, features: list[torch.Tensor], y: torch.Tensor, share: float, replayed: list[Replayed]
    ) -> None:
        """Train a generator that has a trunk of its own, on new and on generated features."""
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
        """Loss on features of some deepest levels; logits are made probabilities first."""
        generator = self.generator
        if soft:
            answers = functional.softmax(answers / self.config.temperature, dim=1)
        context = functional.pad(answers, (0, generator.n_classes - answers.shape[1]))
        kept = features[-(len(self.levels) - lowest) :]
        macs = generator.encode_macs + generator.decode_macs(lowest)
        self.macs["generator"] += len(answers) * 3 * macs
        return generator.loss(generator.encode(encoded), kept, context, self.config.kl_weight)

    def _distance(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Distillation (Hinton et al., 2015) summed over the batch, or cross entropy to labels."""
        if self.config.targets != "distilled":
            return functional.cross_entropy(logits, targets.argmax(1), reduction="sum")
        t = self.config.temperature
        soft = functional.softmax(targets / t, dim=1)  # new classes have probability 0
        log = functional.log_softmax(logits / t, dim=1)[:, : soft.shape[1]]
        return -(t**2) * (soft * log).sum()

    def _unbias(self) -> None:
        """Weigh the rehearsal gradient of block l by 1 / u_l, so that it is not diluted."""
        for block, reach in zip(self.classifier.blocks, self.schedule.reach, strict=False):
            for parameter in block.parameters():
                if parameter.grad is not None:
                    parameter.grad /= max(reach, 1e-3)

    def _scale_rates(self, power: int) -> None:
        """Multiply the learning rate of block l by a power of u_l."""
        blocks = [list(block.parameters()) for block in self.classifier.blocks]
        moved = {id(p) for block in blocks for p in block}
        for group in self._optimizer.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in moved]
        for block, reach in zip(blocks, self.schedule.reach, strict=False):
            rate = self.config.lr * max(reach, 1e-3) ** power
            self._optimizer.add_param_group({"params": block, "lr": rate})

    def _block_macs(self, i: int, n_classes: int | None = None) -> int:
        if i < len(self.classifier.blocks):
            return self.widths[i] * self.widths[i + 1]
        return self.widths[-1] * (n_classes or self.classifier.n_classes)

    def _macs_from(self, level: int, n_classes: int | None = None) -> int:
        return sum(self._block_macs(i, n_classes) for i in range(level, len(self.levels)))

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start
