"""Learner: Progressive Latent Replay in step form, training the adaptive part.

It works on the adaptive blocks, the latent memory and the schedule. Engines, files and the time
budget are handled elsewhere.

Method: Pawlak et al., "Progressive Latent Replay for efficient Generative Rehearsal", arXiv
2207.01562, with stored instead of generated latents. Each training step draws one level from the
schedule. New and rehearsed samples both enter at that level, and only the blocks above it run
backward and are updated. A block that is not rehearsed in a step is therefore not updated in it
either. This removes a bias of the authors' form, in which new data trains every block at every
step while rehearsal reaches block l only with probability u_l.

Shapes: B newest and R rehearsed samples in a step, D feature width, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.unknown_threshold import fit_means
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError, one_line
from plr_edge.replay.cosine_classifier import CosineClassifier
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.level_features import LevelFeatures
from plr_edge.replay.schedule import Level, Schedule, macs_from
from plr_edge.replay.window import Window

_log = logging.getLogger(__name__)
_MAX_GRADIENT = 5.0  # norm over the blocks; a larger gradient is scaled down
_MAX_IMPRINTED = 256  # stored latents that a new class weight is averaged over
_IMPRINT_FIRST = 20  # first samples of a class that are averaged into its weight on arrival


class Learner:
    """Train the adaptive blocks and a cosine classifier over their output, in place.

    Attributes:
        blocks: the adaptive part.
        schedule: share of the steps per level; may be replaced at any time.
        features: memory slots as features of each level; owns the latent memory and the cost.
        cosine: the cosine classifier over the deepest feature.
        exported: weights that the blocks had at the start, those of the bundle.
        diverged: whether a loss was not finite; `restore` resets it.
    """

    def __init__(
        self,
        blocks: nn.Sequential,
        levels: tuple[Level, ...],
        memory: LatentMemory,
        codec: LatentCodec,
        schedule: Schedule,
        config: LearningConfig,
        *,
        window: Window | None = None,
        n_threads: int = 1,
    ) -> None:
        """Take ownership of `blocks` and `memory`.

        Args:
            blocks: the adaptive part with BatchNorm folded; trained in place.
            levels: one per block, and one for the classifier.
            memory: records whose first `codec.record_bytes` bytes are an encoded latent.
            codec: decodes these latents.
            schedule: share of the steps per level.
            config: learning rates, sizes and seed.
            window: the part of the latents that blocks are trained on. None for whole latents.
            n_threads: number of torch threads in this process.
        """
        torch.set_num_threads(n_threads)
        self.blocks = blocks.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.schedule, self.config = schedule, config
        self.features = LevelFeatures(self.blocks, levels, memory, codec, config)
        self.cosine = CosineClassifier(levels[-1].width, config.classifier_lr, config.momentum)
        self.diverged = False
        self._window, self.exported = window, self.weights()
        self._rng = np.random.default_rng([config.seed, 1])
        self._n_imprinted: dict[int, int] = {}  # samples averaged into a class weight, by class
        weights = list(blocks.parameters())
        if not weights:
            _log.warning("no block has weights above the cut: the classifier alone is trained")
        self._optimizer = torch.optim.SGD(  # a group may be empty, the list of groups may not
            [{"params": weights}], lr=config.blocks_lr, momentum=config.momentum
        )

    @property
    def step_macs(self) -> list[int]:
        """Multiply-adds of one training sample by level entered: one forward, two backward."""
        classifier = self.levels[-1]
        of_classes = classifier.width * self.cosine.n_classes - classifier.macs
        levels = self.levels if self._window is None else self._window.levels
        return [3 * (macs + of_classes) for macs in macs_from(levels)]

    @property
    def levels(self) -> tuple[Level, ...]:
        """The input of each block, and that of the classifier."""
        return self.features.levels

    def learn_many(
        self, records: np.ndarray, labels: np.ndarray, features: np.ndarray | None = None
    ) -> None:
        """Add new samples to the latent memory and imprint the weights of new classes.

        Args:
            records: (n, memory.record_bytes) uint8.
            labels: (n,) class indices.
            features: (n, D) float32 deepest features of whole latents, if they are already known.
        """
        if self.features.window is not None:
            features = None
        memory = self.features.memory
        row_of: dict[int, int] = {}  # slot -> row of `records`; a later row may overwrite a slot
        for row, label in enumerate(labels):
            slot = memory.add(records[row], int(label))
            if slot is not None:
                row_of[slot] = row
        if row_of:
            kept = None if features is None else features[list(row_of.values())]
            self.features.on_added(np.array(list(row_of)), kept)
        for label in sorted({int(y) for y in labels}):
            n_imprinted = self._n_imprinted.get(label)
            if n_imprinted is None:
                self._imprint_from_memory(label)
            elif n_imprinted < _IMPRINT_FIRST:
                slots = [slot for slot, row in row_of.items() if labels[row] == label]
                self._imprint(label, np.array(slots, np.int64))

    @property
    def rates(self) -> tuple[float, float]:
        """Learning rates of the blocks and of the classifier."""
        return float(self._optimizer.param_groups[0]["lr"]), self.cosine.lr

    @rates.setter
    def rates(self, rates: tuple[float, float]) -> None:
        self._optimizer.param_groups[0]["lr"], self.cosine.lr = rates

    def step(
        self, *, rehearse: bool = True, with_newest: bool = True, level: int | None = None
    ) -> int | None:
        """Run one training step.

        Args:
            rehearse: False trains on the newest samples alone, as a baseline does.
            with_newest: False trains on the latent memory alone, on as many samples.
            level: index of the level to enter; drawn from the schedule by default.

        Returns:
            The level's index. None if there are fewer than two classes or no sample, or if the
            loss is not finite; the latter changes no weight and sets `diverged`.
        """
        if self.cosine.n_classes < 2:
            return None
        if level is None:
            level = int(self._rng.choice(len(self.levels), p=self.schedule.shares))
        if level < self.features.deepest and self.features.window is not self._window:
            self.features.look_at(self._window, self._rng)
        config = self.config
        n_rehearsed = config.rehearsed_per_step if rehearse else 0
        moving_share = 1.0 - self.schedule.shares[-1]  # steps that update a block
        if with_newest:
            slots = self.features.batch(level, n_rehearsed, moving_share, self._rng)  # (B + R,)
        else:
            n = config.new_per_step + n_rehearsed
            slots = np.unique(self.features.draw(level, n, moving_share, self._rng))
        if not len(slots):
            return None
        labels = self.features.memory.labels[slots].astype(np.int64)  # (B + R,)
        x = self.features.to_torch(self.features.at(level, slots))  # (B + R, *shape of the level)
        features = self.features.forward(x, level, slots)  # (B + R, D)
        loss = self.cosine.loss(features.detach(), torch.from_numpy(labels))
        if not torch.isfinite(loss.value):
            self.diverged = True
            return None
        if features.requires_grad:  # a block was entered, not only the classifier
            self._optimizer.zero_grad(set_to_none=True)
            gradient = self.cosine.feature_gradient(loss)  # (B + R, D)
            features.backward(gradient)  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.blocks[level:].parameters(), _MAX_GRADIENT)
            self._optimizer.step()
        self.cosine.step(loss)
        self.features.on_update(level)
        self.features.cost.train_macs += len(slots) * self.step_macs[level]
        self.features.cost.steps_per_level[level] += 1
        return level

    def fitted_means(self) -> tuple[ClassMeans, float]:
        """Fit class means and the unknown threshold to the latent memory; see `fit_means`."""
        slots = self.features.representative_slots()  # (n,)
        features = self.features.at(self.features.deepest, slots)  # (n, D)
        labels = self.features.memory.labels[slots].astype(np.int64)  # (n,)
        return fit_means(features, labels, self.config.false_unknown)

    @torch.no_grad()
    def features_of(self, latents: np.ndarray) -> np.ndarray:
        """Return the deepest features (n, D) of latents (n, *latent shape), 64 at a time."""
        parts = [np.zeros((0, self.levels[-1].width), np.float32)]
        for start in range(0, len(latents), 64):
            parts.append(self.blocks(self.features.to_torch(latents[start : start + 64])).numpy())
        return np.concatenate(parts)

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the cosine classifier's logits (n, K) for deepest features (n, D)."""
        with torch.no_grad():
            return np.asarray(self.cosine.logits(torch.from_numpy(features)).numpy())

    @property
    def has_moved(self) -> bool:
        """Whether the weights of the blocks are others than at the start."""
        weights, exported = self.weights(), self.exported
        return not all(np.array_equal(weights[name], exported[name]) for name in exported)

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the blocks' weights, float32 by state_dict name."""
        state = self.blocks.state_dict()
        return {name: np.array(t.detach().contiguous().numpy()) for name, t in state.items()}

    def classifier(self) -> np.ndarray:
        """Return a copy of the cosine classifier's weight, (K, D) float32."""
        return np.array(self.cosine.weight.numpy())

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        classifier: np.ndarray,
        prior: np.ndarray | None = None,
        memory: LatentMemory | None = None,
    ) -> None:
        """Continue from saved weights; momentum and cached features are dropped.

        Args:
            weights: float32 by state_dict name, as `weights` returns them.
            classifier: (K, D) float32, as `classifier` returns it.
            prior: (K,) label frequencies of the cosine classifier; unknown by default.
            memory: replaces the latent memory; kept by default.

        Raises:
            StateError: the weights do not fit the adaptive part.
        """
        if memory is not None:
            self.features.memory = memory
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        try:
            self.blocks.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            reason = one_line(error, 200)
            raise StateError(f"learned weights do not fit this bundle ({reason})") from None
        self.features.look_at(self._window if self.has_moved else None, self._rng)
        self._optimizer.state.clear()  # the momentum belongs to other weights
        self.diverged = False
        self.cosine.restore(
            torch.from_numpy(np.array(classifier)),
            torch.zeros(0) if prior is None else torch.from_numpy(np.array(prior)),
        )
        self._n_imprinted = dict.fromkeys(range(len(classifier)), _IMPRINT_FIRST)
        n_classes = int(self.features.memory.labels.max(initial=-1)) + 1
        for label in range(len(classifier), n_classes):
            self._imprint_from_memory(label)

    def _imprint_from_memory(self, label: int) -> None:
        """Set a class weight to the mean feature of its stored latents."""
        self.cosine.grow(label + 1)
        self._imprint(label, np.flatnonzero(self.features.memory.labels == label)[:_MAX_IMPRINTED])

    def _imprint(self, label: int, slots: np.ndarray) -> None:
        """Average the features of slots (n,) into the weight of their class."""
        if len(slots):
            features = self.features.at(self.features.deepest, slots)  # (n, D)
            self.cosine.imprint(label, torch.from_numpy(features))
            self._n_imprinted[label] = self._n_imprinted.get(label, 0) + len(slots)
