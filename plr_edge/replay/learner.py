"""Learner: Progressive Latent Replay, in the step form, on the adaptive part.

Knows the adaptive blocks, the latent memory and the schedule; nothing of engines, files or time.

Method: Pawlak et al., arXiv 2207.01562 (PLR), with stored latents. Each training step draws one
level from the schedule; new and rehearsed samples both enter there, and only the blocks from there
up run backward and are updated. A block that is not rehearsed in a step is therefore not moved in
it either, which removes the bias of the authors' form, where new data trains every block at every
step while rehearsal reaches block l with probability u_l only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from plr_edge.classifiers.class_means import ClassMeans, fit_means
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError
from plr_edge.replay.cosine_classifier import CosineClassifier
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.level_features import LevelFeatures, TrainingCost, to_torch
from plr_edge.replay.schedule import Level, Schedule, macs_from

_MAX_GRADIENT = 5.0  # norm over the blocks; larger ones are scaled down
_MOST_IMPRINTED = 256  # latents that a new row is the mean of
_FIRST_IMPRINTED = 20  # samples of a class that its row takes in beside what training does


class Learner:
    """Train the adaptive blocks and a cosine classifier over their feature, in place."""

    def __init__(
        self,
        blocks: nn.Sequential,
        levels: tuple[Level, ...],
        memory: LatentMemory,
        codec: LatentCodec,
        schedule: Schedule,
        config: LearningConfig,
        *,
        n_threads: int = 1,
    ) -> None:
        """Take over `blocks`, which are trained in place.

        Args:
            blocks: the adaptive part, BatchNorm folded.
            levels: one for each block and one for the classifier.
            memory: records whose first `codec.record_bytes` bytes are the latent's.
            codec: of these latents.
            schedule: shares of the levels.
            config: rates and sizes.
            n_threads: threads of torch, in this process.
        """
        torch.set_num_threads(n_threads)
        self.blocks = blocks.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.schedule, self.config, self.levels = schedule, config, levels
        self.features = LevelFeatures(self.blocks, levels, memory, codec, config)
        self.rows = CosineClassifier(levels[-1].width, config.classifier_lr, config.momentum)
        self.diverged = False  # a loss was not finite; `restore` ends it
        self._rng = np.random.default_rng([config.seed, 1])
        self._n_imprinted: dict[int, int] = {}  # samples that rows are means of, by class
        self._optimizer = torch.optim.SGD(
            blocks.parameters(), lr=config.blocks_lr, momentum=config.momentum
        )

    @property
    def memory(self) -> LatentMemory:
        """What is rehearsed from; after it was replaced, `restore` must follow."""
        return self.features.memory

    @memory.setter
    def memory(self, memory: LatentMemory) -> None:
        self.features.memory = memory

    @property
    def cost(self) -> TrainingCost:
        """What training has spent."""
        return self.features.cost

    @cost.setter
    def cost(self, cost: TrainingCost) -> None:
        self.features.cost = cost

    @property
    def n_classes(self) -> int:
        """Classes that the cosine classifier has a row for."""
        return len(self.rows)

    @property
    def prior(self) -> torch.Tensor:
        """(K,) recent frequency of each label in training steps."""
        return self.rows.prior

    @property
    def step_macs(self) -> list[int]:
        """Multiply-adds of one training sample entered at each level: forward and twice back."""
        return [3 * macs for macs in macs_from(self.levels)]

    def learn_many(
        self, records: np.ndarray, labels: np.ndarray, features: np.ndarray | None = None
    ) -> None:
        """Take new samples into the latent memory; a class seen first gets an imprinted row.

        Args:
            records: (n, memory.record_bytes) uint8.
            labels: (n,) class indices.
            features: (n, D) float32 of the deepest level, where they are already known.
        """
        rows: dict[int, int] = {}  # of the records that are kept, by slot; the last one stays
        for row, label in enumerate(labels):
            slot = self.memory.add(records[row], int(label))
            if slot is not None:
                rows[slot] = row
        if rows:
            own = None if features is None else features[list(rows.values())]
            self.features.taken(np.array(list(rows)), own)
        for label in sorted({int(y) for y in labels}):
            n_imprinted = self._n_imprinted.get(label)
            if n_imprinted is None:
                self._imprint_from_memory(label)
            elif n_imprinted < _FIRST_IMPRINTED:
                slots = [slot for slot, row in rows.items() if labels[row] == label]
                self._imprint(label, np.array(slots, np.int64))

    def step(self, *, rehearse: bool = True, level: int | None = None) -> int | None:
        """Run one training step.

        Args:
            rehearse: False trains on the newest samples alone, as a baseline does.
            level: index of the level entered; drawn from the schedule by default.

        Returns:
            The level's index; None where there is nothing to tell apart yet, or where the loss is
            not finite, which changes nothing and sets `diverged`.
        """
        if self.n_classes < 2:
            return None
        if level is None:
            level = int(self._rng.choice(len(self.levels), p=self.schedule.shares))
        newest = self.features.newest
        n, moving = self.config.rehearsed_per_step, 1.0 - self.schedule.shares[-1]
        rehearsed = self.features.draw(level, n if rehearse else 0, moving, self._rng)
        slots = np.concatenate([newest, np.setdiff1d(rehearsed, newest)])  # (B + R,)
        x = to_torch(self.features.at(level, slots))
        y = torch.from_numpy(self.memory.labels[slots].astype(np.int64))
        features = self.features.forward(x, level, slots)
        loss = self.rows.loss(features.detach(), y)
        if not torch.isfinite(loss):
            self.diverged = True
            return None
        if features.requires_grad:
            self._optimizer.zero_grad(set_to_none=True)
            features.backward(self.rows.feature_gradient())  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.blocks[level:].parameters(), _MAX_GRADIENT)
            self._optimizer.step()
        self.rows.step()
        self.features.moved(level)
        self.cost.train_macs += len(slots) * self.step_macs[level]
        self.cost.steps_per_level[level] += 1
        return level

    def fitted_means(self) -> tuple[ClassMeans, float]:
        """Fit class means and the threshold of `unknown` to the memory; see `fit_means`."""
        slots = self.features.remembered()
        features = self.features_at(self.features.deepest, slots)
        labels = self.memory.labels[slots].astype(np.int64)
        return fit_means(features, labels, self.config.unknown_quantile)

    def features_at(
        self, level: int, slots: np.ndarray, max_age_steps: int | None = None
    ) -> np.ndarray:
        """Return the features of memory slots at a level, from the cache where young enough.

        Args:
            level: index, 0 being the latent.
            slots: (n,) of the latent memory.
            max_age_steps: oldest to accept; the configured age by default.

        Returns:
            (n, *shape of the level) float32.
        """
        return self.features.at(level, slots, max_age_steps)

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the cosine classifier's logits (n, K) for features (n, D)."""
        with torch.no_grad():
            return np.asarray(self.rows.logits(torch.from_numpy(features)).numpy())

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the blocks' weights, float32 by state_dict name."""
        state = self.blocks.state_dict()
        return {name: np.array(t.detach().contiguous().numpy()) for name, t in state.items()}

    def classifier(self) -> np.ndarray:
        """Return a copy of the cosine classifier's rows, (K, D) float32."""
        return np.array(self.rows.weight.numpy())

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        classifier: np.ndarray,
        prior: np.ndarray | None = None,
    ) -> None:
        """Go on from the weights of a generation, and the label frequencies if they are known.

        Raises:
            StateError: they do not fit the adaptive part.
        """
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        try:
            self.blocks.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise StateError(f"learned weights do not fit this bundle ({reason})") from None
        self.features.forget(self._rng)
        self._optimizer.state.clear()  # momentum of other weights
        self.diverged = False
        rows = torch.from_numpy(np.array(classifier))
        self.rows.restore(
            rows, torch.zeros(0) if prior is None else torch.from_numpy(np.array(prior))
        )
        self._n_imprinted = dict.fromkeys(range(len(classifier)), _FIRST_IMPRINTED)
        for label in range(len(classifier), int(self.memory.labels.max(initial=-1)) + 1):
            self._imprint_from_memory(label)

    def _imprint_from_memory(self, label: int) -> None:
        """Set a class's row to its mean feature."""
        self.rows.grow(label + 1)
        of_class = np.flatnonzero(self.memory.labels == label)[:_MOST_IMPRINTED]
        self._imprint(label, of_class)

    def _imprint(self, label: int, slots: np.ndarray) -> None:
        """Take slots (n,) into the mean that the row of their class is."""
        if len(slots):
            features = self.features.at(self.features.deepest, slots)
            self.rows.imprint(label, torch.from_numpy(features))
            self._n_imprinted[label] = self._n_imprinted.get(label, 0) + len(slots)
