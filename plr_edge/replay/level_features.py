"""LevelFeatures: what memory slots look like at each level, and which of them to rehearse.

Knows the blocks, the latent memory and the cache; nothing of losses and classes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from plr_edge.config import LearningConfig
from plr_edge.replay.feature_cache import DerivedCache
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.schedule import Level

_BATCH = 64
_LIFE = 0.8  # of a member, in `max_age_steps`: it goes before a step has to compute it alone
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


class LevelFeatures:
    """Features of memory slots, from the cache where young enough, else from their latents."""

    def __init__(
        self,
        blocks: nn.Sequential,
        levels: tuple[Level, ...],
        memory: LatentMemory,
        codec: LatentCodec,
        config: LearningConfig,
    ) -> None:
        """Begin with an empty cache; see `Learner` for the arguments."""
        self.levels, self.memory = levels, memory
        self.cost = TrainingCost(steps_per_level=[0] * len(levels))
        self.macs_below = [0, *accumulate(level.macs for level in levels)]
        self._blocks, self._codec, self._config = list(blocks), codec, config
        self._moved = [0] * len(levels)  # updates of the blocks below each level
        self._cache = DerivedCache(levels, memory.capacity, config.cache_bytes)
        self._newest: deque[int] = deque(maxlen=config.new_per_step)
        self._due = 0.0  # slots that the working set ought to have let in by now

    @property
    def deepest(self) -> int:
        """The level that the classifier reads."""
        return len(self.levels) - 1

    @property
    def newest(self) -> np.ndarray:
        """(n,) int64 slots that took the newest latents; they are in every step."""
        slots = np.fromiter(dict.fromkeys(self._newest), np.int64)
        return slots[slots < len(self.memory)]  # another memory may be in use since

    def at(self, level: int, slots: np.ndarray, max_age_steps: int | None = None) -> np.ndarray:
        """Return features of slots; see `Learner.features_at`."""
        limit = self._config.max_age_steps if max_age_steps is None else max_age_steps
        out = np.empty((len(slots), *self.levels[level].shape), np.float32)
        ages = self._cache.ages(level, slots, self._moved[level])
        held = (ages >= 0) & (ages <= limit)
        if held.any():
            out[held] = self._cache.get(level, slots[held])
            self.cost.n_cached += int(held.sum())
            self.cost.age_sum_steps += int(ages[held].sum())
            self.cost.age_max_steps = max(self.cost.age_max_steps, int(ages[held].max()))
        missing = np.flatnonzero(~held)
        for start in range(0, len(missing), _BATCH):
            rows = missing[start : start + _BATCH]
            out[rows] = self._computed(level, slots[rows])
        return out

    def forward(
        self, x: torch.Tensor, level: int, slots: np.ndarray, stop: int | None = None
    ) -> torch.Tensor:
        """Run the blocks from `level` up to `stop`; what they return refreshes the cache for free.

        No gradient reaches the blocks below: `x` carries none.
        """
        for deeper, block in enumerate(self._blocks[level:stop], level + 1):
            x = block(x)
            if self._cache.holds(deeper):
                features = x.detach().contiguous().numpy()
                self._cache.put(deeper, slots, features, self._moved[deeper])
        return x

    def taken(self, slots: np.ndarray, features: np.ndarray | None) -> None:
        """Hear that slots (n,) hold new latents, whose deepest features (n, D) may be known."""
        self._newest.extend(slots.tolist())
        for slot in slots.tolist():
            self._cache.drop(slot)
        self._cache.enter(slots, self.memory.labels[slots])
        if features is not None:
            self._cache.put(self.deepest, slots, features, self._moved[self.deepest])

    def moved(self, level: int) -> None:
        """Hear that the blocks from `level` up were updated."""
        for deeper in range(level + 1, len(self.levels)):
            self._moved[deeper] += 1

    def forget(self, rng: np.random.Generator) -> None:
        """Hear that the weights are others, or the memory; choose a working set anew."""
        self._cache = DerivedCache(self.levels, self.memory.capacity, self._config.cache_bytes)
        if self._cache.working is not None:
            slots = self.memory.sample(self._cache.n_places, rng)
            self._cache.enter(slots, self.memory.labels[slots])
            self.let_in(self.newest)

    def remembered(self) -> np.ndarray:
        """Return the slots (n,) whose features stand for the latent memory: all, where few."""
        working = self._cache.working
        if working is None or len(self.memory) <= working.n_places:
            return np.arange(len(self.memory))
        return working.slots

    def draw(self, level: int, n: int, moving_share: float, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` slots to rehearse at a level.

        Where the level is cached for a working set only, they come from there. Else they come from
        the whole memory; as they have to be computed from their latents anyway, they renew the
        working set. What is still missing for nobody there to outlive `max_age_steps` is let in a
        batch at a time, which bounds the cost of a step whatever the size of the memory.

        Args:
            level: index.
            n: how many.
            moving_share: share of the steps that update blocks, and so age the deepest features.
            rng: draws.
        """
        working = self._cache.working
        if n == 0 or working is None or len(self.memory) <= working.n_places:
            return self.memory.sample(n, rng)
        steps = _LIFE * self._config.max_age_steps / max(moving_share, _LEAST_MOVING)
        self._due += working.n_places / max(steps, 1)
        if self._due >= _BATCH:
            slots = self.memory.sample(_BATCH, rng)
            self.let_in(slots)
            self._computed(self.deepest, slots)
        if self._cache.holds(level):
            return working.sample(n, rng)
        slots = self.memory.sample(n, rng)
        self.let_in(slots)
        return slots

    def let_in(self, slots: np.ndarray) -> None:
        """Let slots into the working set; the newest stay there, whether others come or not."""
        both = np.union1d(slots, self.newest)
        self._cache.enter(both, self.memory.labels[both])
        self._due = max(self._due - len(slots), -float(_BATCH))

    def _computed(self, level: int, slots: np.ndarray) -> np.ndarray:
        records = self.memory.records(slots)[:, : self._codec.record_bytes]
        latents = self._codec.decode(records)
        if level == 0:
            return latents
        with torch.no_grad():
            features = self.forward(to_torch(latents), 0, slots, stop=level)
        self.cost.refresh_macs += len(slots) * self.macs_below[level]
        return np.asarray(features.contiguous().numpy())


def to_torch(x: np.ndarray) -> torch.Tensor:
    """Return features as the blocks take them, maps with channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
