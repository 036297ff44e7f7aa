"""Learner: Progressive Latent Replay, in the step form, on the adaptive part.

Knows the adaptive blocks, the latent memory and the schedule; nothing of engines, files or time.

Method: Pawlak et al., arXiv 2207.01562 (PLR), with stored latents. Each training step draws one
level from the schedule; new and rehearsed samples both enter there, and only the blocks from there
up run backward and are updated. A block that is not rehearsed in a step is therefore not moved in
it either, which removes the bias of the authors' form, where new data trains every block at every
step while rehearsal reaches block l with probability u_l only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from plr_edge.codec import LatentCodec
from plr_edge.config import AdaptConfig
from plr_edge.cosine_rows import CosineRows
from plr_edge.derived_cache import DerivedCache
from plr_edge.errors import StateError
from plr_edge.memory import LatentMemory
from plr_edge.schedule import Level, Schedule

_FORWARD_BATCH = 64
_MAX_GRADIENT = 5.0  # norm over the blocks; larger ones are scaled down
_MOST_IMPRINTED = 256  # latents that a new row is the mean of
_LEAST_MOVING = 0.1  # share of steps taken to move blocks, at least: how fast members go stale


@dataclass
class TrainingCost:
    """What training has spent, in multiply-adds, and how old its cached features were.

    Attributes:
        train_macs: of forward and backward passes above the drawn level.
        refresh_macs: of passes below it, for features that were not cached or too old.
        steps_per_level: training steps by drawn level.
        n_cached: features taken from the cache.
        age_sum_steps: of these, in updates of the blocks below.
        age_max_steps: of these.
    """

    train_macs: int = 0
    refresh_macs: int = 0
    steps_per_level: list[int] = field(default_factory=list)
    n_cached: int = 0
    age_sum_steps: int = 0
    age_max_steps: int = 0

    @property
    def macs(self) -> int:
        """Everything that learning cost."""
        return self.train_macs + self.refresh_macs


class Learner:
    """Train the adaptive blocks and a cosine classifier over their feature, in place."""

    def __init__(
        self,
        blocks: nn.Sequential,
        levels: tuple[Level, ...],
        memory: LatentMemory,
        codec: LatentCodec,
        schedule: Schedule,
        config: AdaptConfig,
    ) -> None:
        """Take over `blocks`, which are trained in place.

        Args:
            blocks: the adaptive part, BatchNorm folded.
            levels: one for each block and one for the classifier.
            memory: records whose first `codec.record_bytes` bytes are the latent's.
            codec: of these latents.
            schedule: shares of the levels.
            config: rates and sizes.
        """
        torch.set_num_threads(config.n_threads)
        self.blocks = blocks.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.levels, self.memory = levels, memory
        self.codec, self.schedule, self.config = codec, schedule, config
        self.rows = CosineRows(levels[-1].width, config.classifier_lr, config.momentum)
        self.cost = TrainingCost(steps_per_level=[0] * len(levels))
        self.diverged = False  # a loss was not finite; `restore` ends it
        self._rng = np.random.default_rng([config.seed, 1])
        self._newest: deque[int] = deque(maxlen=config.new_per_step)
        self._cache = DerivedCache(levels, memory.capacity, config.cache_bytes)
        self._moved = [0] * len(levels)  # updates of the blocks below each level
        self._macs_below = [0, *accumulate(level.macs for level in levels)]
        self._due = 0.0  # slots that the working set ought to have let in by now
        self._optimizer = torch.optim.SGD(
            blocks.parameters(), lr=config.blocks_lr, momentum=config.momentum
        )

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
        total = self._macs_below[-1]
        return [3 * (total - below) for below in self._macs_below[:-1]]

    def learn_many(
        self, records: np.ndarray, labels: np.ndarray, features: np.ndarray | None = None
    ) -> None:
        """Take new samples into the latent memory; a class seen first gets an imprinted row.

        Args:
            records: (n, memory.record_bytes) uint8.
            labels: (n,) class indices.
            features: (n, D) float32 of the deepest level, where they are already known.
        """
        slots = [self.memory.add(record, int(y)) for record, y in zip(records, labels, strict=True)]
        for i, slot in enumerate(slots):
            if slot is not None:
                self._cache.drop(slot)
                self._newest.append(slot)
                at = np.array([slot])
                self._cache.enter(at, self.memory.labels[at])
                if features is not None:
                    deepest = len(self.levels) - 1
                    self._cache.put(deepest, at, features[i : i + 1], self._moved[deepest])
        new = sorted({int(y) for y in labels if y >= self.n_classes})
        for label in new:
            self._imprint_from_memory(label)

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
        newest = np.fromiter(set(self._newest), np.int64)
        rehearsed = self._drawn(level, self.config.rehearsed_per_step if rehearse else 0)
        slots = np.concatenate([newest, np.setdiff1d(rehearsed, newest)])  # (B + R,)
        x = _to_torch(self.features_at(level, slots))
        y = torch.from_numpy(self.memory.labels[slots].astype(np.int64))
        features = self._forward(x, level, slots)
        loss = self.rows.loss(features.detach(), y)
        if not torch.isfinite(loss):
            self.diverged = True
            return None
        if level < len(self.blocks):
            self._optimizer.zero_grad(set_to_none=True)
            features.backward(self.rows.feature_gradient())  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.blocks[level:].parameters(), _MAX_GRADIENT)
            self._optimizer.step()
        self.rows.step()
        for deeper in range(level + 1, len(self.levels)):
            self._moved[deeper] += 1
        self.cost.train_macs += len(slots) * self.step_macs[level]
        self.cost.steps_per_level[level] += 1
        return level

    def remembered(self) -> np.ndarray:
        """Return the slots (n,) whose features stand for the latent memory: all, where few."""
        working = self._cache.working
        if working is None or len(self.memory) <= working.n_places:
            return np.arange(len(self.memory))
        return working.slots

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
        limit = self.config.max_age_steps if max_age_steps is None else max_age_steps
        out = np.empty((len(slots), *self.levels[level].shape), np.float32)
        ages = self._cache.ages(level, slots, self._moved[level])
        held = (ages >= 0) & (ages <= limit)
        if held.any():
            out[held] = self._cache.get(level, slots[held])
            self.cost.n_cached += int(held.sum())
            self.cost.age_sum_steps += int(ages[held].sum())
            self.cost.age_max_steps = max(self.cost.age_max_steps, int(ages[held].max()))
        for start in range(0, int((~held).sum()), _FORWARD_BATCH):
            at = np.flatnonzero(~held)[start : start + _FORWARD_BATCH]
            out[at] = self._computed(level, slots[at])
        return out

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
        self._cache = DerivedCache(self.levels, self.memory.capacity, self.config.cache_bytes)
        if self._cache.working is not None:
            self._let_in(self.memory.sample(self._cache.n_places, self._rng))
        self._optimizer.state.clear()  # momentum of other weights
        self.diverged = False
        rows = torch.from_numpy(np.array(classifier))
        self.rows.restore(
            rows, torch.zeros(0) if prior is None else torch.from_numpy(np.array(prior))
        )
        for label in range(len(classifier), int(self.memory.labels.max(initial=-1)) + 1):
            self._imprint_from_memory(label)

    def _drawn(self, level: int, n: int) -> np.ndarray:
        """Draw `n` slots to rehearse.

        Where the level is cached for a working set only, they come from there. Else they come from
        the whole memory; as they have to be computed from their latents anyway, they renew the
        working set. What is still missing for nobody there to outlive `max_age_steps` is let in a
        batch at a time, which bounds the cost of a step whatever the size of the memory.
        """
        working = self._cache.working
        if n == 0 or working is None or len(self.memory) <= working.n_places:
            return self.memory.sample(n, self._rng)
        moving = max(1.0 - self.schedule.shares[-1], _LEAST_MOVING)
        self._due += working.n_places * moving / max(self.config.max_age_steps, 1)
        if self._due >= _FORWARD_BATCH:
            slots = self.memory.sample(_FORWARD_BATCH, self._rng)
            self._let_in(slots)
            self._computed(len(self.levels) - 1, slots)
        if self._cache.holds(level):
            return working.sample(n, self._rng)
        slots = self.memory.sample(n, self._rng)
        self._let_in(slots)
        return slots

    def _let_in(self, slots: np.ndarray) -> None:
        self._cache.enter(slots, self.memory.labels[slots])
        self._due = max(self._due - len(slots), -float(_FORWARD_BATCH))

    def _computed(self, level: int, slots: np.ndarray) -> np.ndarray:
        records = self.memory.records(slots)[:, : self.codec.record_bytes]
        latents = self.codec.decode(records)
        if level == 0:
            return latents
        with torch.no_grad():
            features = self._forward(_to_torch(latents), 0, slots, stop=level)
        self.cost.refresh_macs += len(slots) * self._macs_below[level]
        return np.asarray(features.contiguous().numpy())

    def _forward(
        self, x: torch.Tensor, level: int, slots: np.ndarray, stop: int | None = None
    ) -> torch.Tensor:
        """Run the blocks from `level` up to `stop`; what they return refreshes the cache for free.

        No gradient reaches the blocks below: `x` carries none.
        """
        for deeper, block in enumerate(self.blocks[level:stop], level + 1):
            x = block(x)
            if self._cache.holds(deeper):
                features = x.detach().contiguous().numpy()
                self._cache.put(deeper, slots, features, self._moved[deeper])
        return x

    def _imprint_from_memory(self, label: int) -> None:
        """Set a class's row to its mean feature."""
        self.rows.grow(label + 1)
        of_class = np.flatnonzero(self.memory.labels == label)[:_MOST_IMPRINTED]
        if len(of_class):
            features = self.features_at(len(self.levels) - 1, of_class)
            self.rows.imprint(label, torch.from_numpy(features))


def _to_torch(x: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
