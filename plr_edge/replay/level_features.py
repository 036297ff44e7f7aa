"""LevelFeatures: memory slots as features of each level, and which of them to rehearse.

Works on the blocks, the latent memory and the feature cache, not on losses or classifiers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from plr_edge.config import LearningConfig
from plr_edge.replay.feature_cache import FeatureCache
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.schedule import Level
from plr_edge.replay.window import Window

_BATCH = 64  # latents decoded and passed through the blocks at once
_LIFETIME = 0.8  # share of `max_age_steps` after which a member of the working set is replaced
_MIN_MOVING = 0.1  # lowest share of steps assumed to update blocks, when estimating ageing


@dataclass
class TrainingCost:
    """What training has cost in multiply-adds, and how old the cached features were.

    An age is the number of updates of the blocks below a level since a feature was computed.

    Attributes:
        train_macs: forward and backward passes above the level entered.
        refresh_macs: passes below it, for features that were not cached or too old.
        steps_per_level: training steps by level entered.
        n_cached: features served from the cache.
        age_sum_steps: sum of their ages.
        age_max_steps: largest of their ages.
    """

    train_macs: int = 0
    refresh_macs: int = 0
    steps_per_level: list[int] = field(default_factory=list)
    n_cached: int = 0
    age_sum_steps: int = 0
    age_max_steps: int = 0

    @property
    def macs(self) -> int:
        """Total multiply-adds of learning."""
        return self.train_macs + self.refresh_macs


class LevelFeatures:
    """Features of memory slots, from the cache if young enough, else computed from the latents.

    Attributes:
        memory: the latent memory; `invalidate` must follow its replacement.
        cost: what training has cost so far.
        window: the part of the latents that features are computed of. None for whole latents.
        levels: the input of each block, and that of the classifier.
        macs_below: multiply-adds of one sample's forward pass up to each level.
    """

    def __init__(
        self,
        blocks: nn.Sequential,
        levels: tuple[Level, ...],
        memory: LatentMemory,
        codec: LatentCodec,
        config: LearningConfig,
    ) -> None:
        """Start with an empty cache; the arguments are those of `Learner`."""
        self.levels, self.memory = levels, memory
        self.window: Window | None = None
        self.cost = TrainingCost(steps_per_level=[0] * len(levels))
        self.macs_below = [0, *accumulate(level.macs for level in levels)]
        self._whole = levels
        self._blocks, self._codec, self._config = list(blocks), codec, config
        self._n_updates = [0] * len(levels)  # updates of the blocks below each level
        self._cache = FeatureCache(levels, memory.capacity, config.cache_bytes)
        self._newest: deque[int] = deque(maxlen=config.new_per_step)
        self._overdue = 0.0  # slots that should have entered the working set by now

    @property
    def deepest(self) -> int:
        """Index of the level that the classifier reads."""
        return len(self.levels) - 1

    @property
    def newest(self) -> np.ndarray:
        """(n,) int64 slots with the newest latents; every training step includes them."""
        slots = np.fromiter(dict.fromkeys(self._newest), np.int64)
        return slots[slots < len(self.memory)]  # the memory may have been replaced since

    def at(self, level: int, slots: np.ndarray, max_age_steps: int | None = None) -> np.ndarray:
        """Return the features of slots at a level.

        Args:
            level: index of the level; 0 is the latent.
            slots: (n,) int64 slots of the latent memory.
            max_age_steps: oldest cached feature to accept; `config.max_age_steps` by default.

        Returns:
            (n, *shape of the level) float32.
        """
        limit = self._config.max_age_steps if max_age_steps is None else max_age_steps
        out = np.empty((len(slots), *self.levels[level].shape), np.float32)
        ages = self._cache.ages(level, slots, self._n_updates[level])  # (n,)
        cached = (ages >= 0) & (ages <= limit)  # (n,)
        if cached.any():
            out[cached] = self._cache.get(level, slots[cached])
            self.cost.n_cached += int(cached.sum())
            self.cost.age_sum_steps += int(ages[cached].sum())
            self.cost.age_max_steps = max(self.cost.age_max_steps, int(ages[cached].max()))
        missing = np.flatnonzero(~cached)
        for start in range(0, len(missing), _BATCH):
            rows = missing[start : start + _BATCH]
            out[rows] = self._computed(level, slots[rows])
        return out

    def forward(
        self, x: torch.Tensor, level: int, slots: np.ndarray, stop: int | None = None
    ) -> torch.Tensor:
        """Run the blocks from `level` up to `stop`, and cache what they return.

        Args:
            x: (n, *shape of the level) float32, without gradient, so none reaches lower blocks.
            level: index of the level that x belongs to.
            slots: (n,) int64 slots that x belongs to.
            stop: index of the level to return; the deepest by default.

        Returns:
            (n, *shape of the level `stop`) float32.
        """
        for deeper, block in enumerate(self._blocks[level:stop], level + 1):
            x = block(x)  # (n, *shape of the level `deeper`)
            if self._cache.holds(deeper):
                features = x.detach().contiguous().numpy()
                self._cache.put(deeper, slots, features, self._n_updates[deeper])
        return x

    def on_added(self, slots: np.ndarray, features: np.ndarray | None) -> None:
        """Update the cache after new latents were written.

        Args:
            slots: (n,) int64 slots that were written.
            features: (n, D) float32 deepest features, if they are already known.
        """
        self._newest.extend(slots.tolist())
        for slot in slots.tolist():
            self._cache.drop(slot)
        self._cache.admit(slots, self.memory.labels[slots])
        if features is not None:
            self._cache.put(self.deepest, slots, features, self._n_updates[self.deepest])

    def on_update(self, level: int) -> None:
        """Age the cached features above `level`, whose blocks were just updated."""
        for deeper in range(level + 1, len(self.levels)):
            self._n_updates[deeper] += 1

    def look_at(self, window: Window | None, rng: np.random.Generator) -> None:
        """Compute features of a window of the latents from now on; None for whole latents."""
        self.window = window
        self.levels = self._whole if window is None else window.levels
        self.macs_below = [0, *accumulate(level.macs for level in self.levels)]
        self.invalidate(rng)

    def invalidate(self, rng: np.random.Generator) -> None:
        """Empty the cache and draw a new working set, after weights or memory were replaced."""
        self._cache = FeatureCache(self.levels, self.memory.capacity, self._config.cache_bytes)
        if self._cache.working_set is not None:
            slots = self.memory.sample(self._cache.capacity, rng)
            self._cache.admit(slots, self.memory.labels[slots])
            self.admit(self.newest)

    def representative_slots(self) -> np.ndarray:
        """Return the slots (n,) whose features represent the memory: the working set, or all."""
        working_set = self._cache.working_set
        if working_set is None or len(self.memory) <= working_set.capacity:
            return np.arange(len(self.memory))
        return working_set.slots

    def batch(
        self, level: int, n_rehearsed: int, moving_share: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the slots of one training step: the newest, then those drawn for rehearsal.

        Args:
            level: index of the level that the step enters.
            n_rehearsed: how many slots to draw; those that are among the newest drop out.
            moving_share: share of the steps that update blocks; see `draw`.
            rng: source of randomness.

        Returns:
            (B + R,) int64, all different.
        """
        newest = self.newest  # (B,)
        rehearsed = self.draw(level, n_rehearsed, moving_share, rng)
        return np.concatenate([newest, np.setdiff1d(rehearsed, newest)])

    def draw(self, level: int, n: int, moving_share: float, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` slots to rehearse at a level.

        If the level is cached for a working set only, slots come from the working set. Otherwise
        they come from the whole memory, and as their features must be computed from the latents
        anyway, they also renew the working set. If that alone would let members grow older than
        `max_age_steps`, further slots are admitted one batch at a time. The cost of a step is
        therefore bounded, whatever the size of the memory.

        Args:
            level: index of the level.
            n: how many slots to draw.
            moving_share: share of the steps that update blocks, and so age the deepest features.
            rng: source of randomness.

        Returns:
            (n,) int64, fewer if the memory holds fewer.
        """
        working_set = self._cache.working_set
        if n == 0 or working_set is None or len(self.memory) <= working_set.capacity:
            return self.memory.sample(n, rng)
        steps = _LIFETIME * self._config.max_age_steps / max(moving_share, _MIN_MOVING)
        self._overdue += working_set.capacity / max(steps, 1)
        if self._overdue >= _BATCH:
            slots = self.memory.sample(_BATCH, rng)
            self.admit(slots)
            self._computed(self.deepest, slots)
        if self._cache.holds(level):
            return working_set.sample(n, rng)
        slots = self.memory.sample(n, rng)
        self.admit(slots)
        return slots

    def admit(self, slots: np.ndarray) -> None:
        """Admit slots (n,) to the working set; the newest always stay in it."""
        both = np.union1d(slots, self.newest)
        self._cache.admit(both, self.memory.labels[both])
        self._overdue = max(self._overdue - len(slots), -float(_BATCH))

    def _computed(self, level: int, slots: np.ndarray) -> np.ndarray:
        """Compute features (n, *shape of the level) float32 of slots (n,) from their latents."""
        records = self.memory.records(slots)[:, : self._codec.record_bytes]  # (n, record_bytes)
        latents = self._codec.decode(records)  # (n, *latent shape)
        if self.window is not None:
            latents = self.window.cut(latents)
        if level == 0:
            return latents
        with torch.no_grad():
            features = self.forward(self.to_torch(latents), 0, slots, stop=level)
        self.cost.refresh_macs += len(slots) * self.macs_below[level]
        return np.asarray(features.contiguous().numpy())

    def to_torch(self, x: np.ndarray) -> torch.Tensor:
        """Return features (n, ...) as a tensor in the layout of the blocks: channels last."""
        tensor = torch.from_numpy(np.ascontiguousarray(x))
        if tensor.ndim == 4 and self._codec.axes != "HWC":
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor
