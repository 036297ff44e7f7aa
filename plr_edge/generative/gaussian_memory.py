"""GaussianMemory: a latent memory that draws its latents from class statistics.

Only sums over samples are kept: of each class its sum and squares, of all together one matrix of
second moments. The newest latents stay in RAM until newer ones replace them, as every training step
includes them. Nothing of a single frame goes to disk.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from plr_edge.errors import ConfigError, StateError
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory

_MAX_WIDTH = 8192  # values of a latent; the matrix takes their square
_MAX_WAITING = 64  # latents that the statistics may lag behind
_FEWEST = 32  # samples before anything is drawn
_GROWTH = 1.5  # of the samples, before the noise is drawn again
_ARRAYS = ("sums", "squares", "counts", "scatter")


class GaussianMemory(LatentMemory):
    """Slots for the newest latents, and for latents that every step draws again.

    Attributes:
        macs: multiply-adds spent on the statistics.
    """

    def __init__(
        self,
        codec: LatentCodec,
        n_new: int,
        n_drawn: int,
        seed: int,
        *,
        signed: bool = True,
        tail_bytes: int = 0,
    ) -> None:
        """Start empty.

        Args:
            codec: encodes the latents in the slots.
            n_new: newest latents that are kept in RAM.
            n_drawn: most latents that a step draws.
            seed: random seed.
            signed: whether values of a latent may be negative.
            tail_bytes: bytes behind the latent in each record, which are ignored.

        Raises:
            ConfigError: a latent has too many values.
        """
        width = int(np.prod(codec.shape))
        if width > _MAX_WIDTH:
            raise ConfigError(
                f"a latent of this bundle has {width} values; statistics of at most {_MAX_WIDTH} "
                "can be kept; cut the network later, or leave out --rehearse generated"
            )
        n_slots, record_bytes = n_new + n_drawn, codec.record_bytes + tail_bytes
        super().__init__(record_bytes, n_slots * (record_bytes + 4), seed)
        self._codec, self._n_new, self._tail_bytes = codec, n_new, tail_bytes
        self._signed, self._seed = signed, seed
        self._generator = GaussianGenerator(width)
        self._records = np.zeros((n_slots, record_bytes), np.uint8)
        self._labels = np.full(n_slots, -1, np.int32)
        self._n, self._at, self._n_frozen = n_slots, 0, 0
        self._draw = torch.Generator().manual_seed(seed)
        self._waiting: list[tuple[torch.Tensor, int]] = []  # latents the statistics lag behind
        self.macs = 0

    def __len__(self) -> int:
        return self._n if self.n_learned else 0

    @property
    def generator(self) -> GaussianGenerator:
        """The statistics of all latents so far."""
        self._catch_up()
        return self._generator

    @property
    def n_learned(self) -> int:
        """Number of samples that the statistics are of."""
        return int(self._generator.counts.sum()) + len(self._waiting)

    @property
    def n_bytes(self) -> int:
        """Bytes of the statistics and of the newest latents."""
        return self.generator.n_bytes + self._n_new * (self.record_bytes + 4)

    def add(self, record: np.ndarray, label: int) -> int:
        """Learn the statistics of a latent, and keep it among the newest."""
        latent = torch.from_numpy(self._decoded(record[None]).reshape(1, -1))
        self._waiting.append((latent, label))
        if len(self._waiting) >= _MAX_WAITING:
            self._catch_up()
        slot = self._at
        self._records[slot], self._labels[slot] = record, label
        self._at = (self._at + 1) % self._n_new
        return slot

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw latents of known classes into the other slots, and return these."""
        n = min(n, self._n - self._n_new)
        if n == 0 or self.n_learned < _FEWEST:
            return np.empty(0, np.int64)
        classes = rng.choice(self._known(), n)
        slots = np.arange(self._n_new, self._n_new + n)
        records = self._codec.encode(self._drawn(classes))
        self._records[slots, : self._codec.record_bytes] = records
        self._labels[slots] = classes
        return slots

    def draw_each(self, n_per_class: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw latents of every known class.

        Returns:
            latents: (n, *latent shape) float32.
            labels: (n,) int64 class indices.
        """
        classes = np.repeat(self._known(), n_per_class)
        if not len(classes):
            return np.zeros((0, *self._codec.shape), np.float32), classes
        return self._drawn(classes), classes

    def without_class(self, label: int) -> GaussianMemory:
        """Return a memory that knows nothing of a class but its part in the covariance of all.

        The classes after it move up by one. Of the matrix, a class takes its mean with it and as
        much of the covariance within classes as its share of the samples.
        """
        other = GaussianMemory(
            self._codec, self._n_new, self._n - self._n_new, self._seed,
            signed=self._signed, tail_bytes=self._tail_bytes,
        )  # fmt: skip
        if label >= self.generator.n_classes:
            other.restore(self.to_statistics())
            return other
        mine, kept = self.generator, torch.arange(self.generator.n_classes) != label
        means = mine.sums / mine.counts.clamp(min=1)[:, None]
        between = means.T @ (means * mine.counts[:, None])
        within = (mine.scatter - between) / mine.counts.sum().clamp(min=1)
        own = torch.outer(means[label], means[label]) + within
        theirs = other.generator
        theirs.sums, theirs.squares = mine.sums[kept], mine.squares[kept]
        theirs.counts = mine.counts[kept]
        if theirs.counts.sum() > 0:
            theirs.scatter = mine.scatter - mine.counts[label] * own
        return other

    def to_statistics(self) -> dict[str, np.ndarray]:
        """Return the statistics, all that is kept."""
        return {name: getattr(self.generator, name).numpy() for name in _ARRAYS}

    def restore(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Continue from what `to_statistics` returned.

        Raises:
            StateError: it does not fit the latents.
        """
        width = self.generator.sums.shape[1]
        if statistics["sums"].shape[1:] != (width,):
            raise StateError(
                f"the state holds statistics of latents of {statistics['sums'].shape[1]} values; "
                f"this bundle needs {width}; restore a copy, or choose another --state"
            )
        for name in _ARRAYS:
            setattr(self._generator, name, torch.from_numpy(np.array(statistics[name])))

    def _catch_up(self) -> None:
        if not self._waiting:
            return
        latents = torch.cat([latent for latent, _ in self._waiting])
        labels = torch.tensor([label for _, label in self._waiting])
        self._waiting.clear()
        self._generator.grow(max(int(labels.max()) + 1, self._generator.n_classes))
        self._generator.learn_many(latents, labels)
        self.macs += latents.numel() * (latents.shape[1] + 2)

    def _known(self) -> np.ndarray:
        return np.flatnonzero(self.generator.counts.numpy() > 0)

    def _decoded(self, records: np.ndarray) -> np.ndarray:
        return self._codec.decode(records[:, : self._codec.record_bytes])

    def _drawn(self, classes: np.ndarray) -> np.ndarray:
        """Draw latents (n, *latent shape) of classes (n,)."""
        if self.n_learned >= _GROWTH * self._n_frozen:  # a decomposition: seldom
            self.macs += self.generator.freeze(self._draw)
            self._n_frozen = self.n_learned
        else:
            self.generator.refresh()
        (latents,) = self.generator.sample_levels(torch.from_numpy(classes), 0, self._draw)
        self.macs += len(classes) * self.generator.decode_macs(0)
        shaped = latents.numpy().reshape(len(classes), *self._codec.shape)
        return shaped if self._signed else np.maximum(shaped, 0)
