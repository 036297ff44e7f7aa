"""Other ways to train the adaptive blocks: the field's, written from the papers' equations.

All answer with their own trained classifier and use the latents that every contender gets.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bench.contenders import Contender, TooSlow
from plr_edge.bench.product_codec import FloatCodec, ProductCodec
from plr_edge.bench.scenarios import Part, Task
from plr_edge.codec import LatentCodec
from plr_edge.config import AdaptConfig
from plr_edge.gaussian_generator import GaussianGenerator
from plr_edge.learner import Learner
from plr_edge.memory import LatentMemory
from plr_edge.runtime.session import adaptive_blocks
from plr_edge.schedule import make_schedule
from plr_edge.stream.decode import decode_image

_BATCH = 250
_JOINT_SAMPLES = 1_200_000  # that joint training draws at most, and at least two epochs
_JOINT_EPOCHS = 12
Codec = LatentCodec | FloatCodec | ProductCodec


class Rehearser(Contender):
    """Our learner with another memory, codec or schedule, answering with its classifier alone."""

    def __init__(
        self,
        task: Task,
        config: AdaptConfig,
        codec: Codec,
        memory: LatentMemory,
        *,
        schedule: str = "internal",
        steps_per_frame: float = 1 / 16,
        rehearse: bool = True,
    ) -> None:
        super().__init__(task, config)
        self.codec, self.memory, self._rehearse = codec, memory, rehearse
        self._steps_per_frame, self._owed = steps_per_frame, 0.0
        levels = task.bundle.levels
        self.learner = Learner(
            adaptive_blocks(task.bundle), levels, memory, codec,  # type: ignore[arg-type]
            make_schedule(schedule, levels), config,
        )  # fmt: skip

    def learn(self, part: Part) -> None:
        """Take a chunk in, and make the steps that are due."""
        self.n_taught += len(part.labels)
        self.learner.learn_many(self.codec.encode(part.seen.latents), part.labels)
        self._owed += len(part.labels) * self._steps_per_frame
        while self._owed >= 1:
            self.learner.step(rehearse=self._rehearse)
            self._owed -= 1

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Contender`."""
        parts = [
            self.learner.scores_many(self._features(latents)).argmax(1)
            for latents in _batches(part.seen.latents)
        ]
        return {"": np.concatenate(parts)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Contender`."""
        kept = self.memory.n_bytes if self._rehearse else 0
        return {"macs": float(self.learner.cost.macs), "memory_bytes": float(kept)}

    def _features(self, latents: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.learner.blocks(torch.from_numpy(np.array(latents))).numpy())


class Naive(Rehearser):
    """Fine-tune every block on the stream as it comes, without rehearsal."""

    def __init__(self, task: Task, config: AdaptConfig) -> None:
        codec = task.bundle.codec(8)
        memory = LatentMemory(codec.record_bytes, 64 * (codec.record_bytes + 4), config.seed)
        config = replace(config, cache_bytes=0)
        super().__init__(task, config, codec, memory, rehearse=False)


class Joint(Rehearser):
    """Everything at once, many times over, every block: the ceiling for these blocks."""

    def __init__(self, task: Task, config: AdaptConfig, **tuned: Any) -> None:
        codec = task.bundle.codec(8)
        n = len(task.train.labels)
        memory = LatentMemory(codec.record_bytes, n * (codec.record_bytes + 4), config.seed)
        config = replace(config, cache_bytes=0, new_per_step=1, rehearsed_per_step=64, **tuned)
        super().__init__(task, config, codec, memory, steps_per_frame=0.0)

    def finish(self) -> None:
        """Train when all has come."""
        n = len(self.memory)
        n_samples = min(_JOINT_EPOCHS * n, max(_JOINT_SAMPLES, 2 * n))
        for _ in range(n_samples // 64):
            self.learner.step()


def remind(task: Task, config: AdaptConfig, **tuned: Any) -> Rehearser:
    """Rehearse product-quantised latents at one level.

    Method: Hayes et al., "REMIND Your Neural Network to Prevent Catastrophic Forgetting", ECCV
    2020, section 3. The codebook is trained on the first tenth of the stream, as its base classes
    are; new samples are quantised too, and every step mixes them with rehearsed ones.
    """
    first = task.train.seen.latents[: max(64, len(task.train.labels) // 10)]
    codec = ProductCodec(np.asarray(first), seed=config.seed)
    budget = config.memory_bytes - codec.codebook_bytes
    memory = LatentMemory(codec.record_bytes, budget, config.seed)
    return Rehearser(task, replace(config, **{"blocks_lr": 0.001, **tuned}), codec, memory)


class GaussianMemory(LatentMemory):
    """Slots for the newest latents, and others that are drawn anew for every step."""

    def __init__(self, codec: FloatCodec, n_new: int, n_drawn: int, seed: int) -> None:
        n_slots = n_new + n_drawn
        super().__init__(codec.record_bytes, n_slots * (codec.record_bytes + 4), seed)
        self._codec, self._n_new = codec, n_new
        width = int(np.prod(codec.shape))
        self.generator = GaussianGenerator(width)
        self._records = np.zeros((n_slots, codec.record_bytes), np.uint8)
        self._labels = np.full(n_slots, -1, np.int32)
        self._n, self._at, self._n_frozen = n_slots, 0, 0
        self._draw = torch.Generator().manual_seed(seed)

    @property
    def n_bytes(self) -> int:
        """Bytes of the generator's sums and of the newest latents."""
        return self.generator.n_bytes + self._n_new * (self.record_bytes + 4)

    def add(self, record: np.ndarray, label: int) -> int:
        """Let the generator learn a latent, and keep it among the newest."""
        if label >= self.generator.n_classes:
            self.generator.grow(label + 1)
        latent = torch.from_numpy(self._codec.decode(record[None]).reshape(1, -1))
        self.generator.learn_many(latent, torch.tensor([label]))
        slot = self._at
        self._records[slot], self._labels[slot] = record, label
        self._at = (self._at + 1) % self._n_new
        return slot

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw latents of classes known into the other slots, and return these."""
        seen = int(self.generator.counts.sum())
        if n == 0 or seen < 32:
            return np.empty(0, np.int64)
        if seen >= 1.5 * self._n_frozen:  # an eigendecomposition: seldom
            self.generator.freeze()
            self._n_frozen = seen
        known = np.flatnonzero(self.generator.counts.numpy() > 0)
        classes = rng.choice(known, n)
        (latents,) = self.generator.sample_levels(torch.from_numpy(classes), 0, self._draw)
        slots = np.arange(self._n_new, self._n_new + n)
        shaped = latents.numpy().reshape(n, *self._codec.shape)
        self._records[slots] = self._codec.encode(np.maximum(shaped, self._codec.least))
        self._labels[slots] = classes
        return slots


def generated(task: Task, config: AdaptConfig, **tuned: Any) -> Rehearser:
    """Progressive Latent Replay from a Gaussian generator: nothing stored but sums."""
    config = replace(config, cache_bytes=0, **tuned)
    signed = bool(task.bundle.manifest["latent_signed"])
    codec = FloatCodec(task.bundle.latent_shape, least=-np.inf if signed else 0.0)
    memory = GaussianMemory(codec, config.new_per_step, config.rehearsed_per_step, config.seed)
    return Rehearser(task, config, codec, memory, schedule="progressive", steps_per_frame=1 / 4)


class Ar1(Contender):
    """Latent replay at the cut with a plain classifier whose rows are consolidated.

    Method: Pellegrini et al., "Latent Replay for Real-Time Continual Learning", IROS 2020, with
    the layers before the replay layer frozen: float latents, random replacement of a share of the
    memory after each experience, several epochs of mini-batches that mix new and replayed 1 : 5;
    CWR* of Lomonaco et al., "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches",
    CVPR workshops 2020, algorithm 1, for the classifier.
    """

    def __init__(self, task: Task, config: AdaptConfig, *, lr: float = 0.003, epochs: int = 4
                 ) -> None:  # fmt: skip
        super().__init__(task, config)
        self._blocks = adaptive_blocks(task.bundle).eval()
        self._epochs, self._lr = epochs, lr
        self._rows = torch.zeros(len(task.classes), task.bundle.feature_width)
        self._past = torch.zeros(len(task.classes))
        width = int(np.prod(task.bundle.latent_shape))
        self._capacity = max(1, config.memory_bytes // (4 * width + 4))
        self._memory = (np.zeros((0, *task.bundle.latent_shape), np.float32), np.zeros(0, int))
        self._new: list[Part] = []
        self._n_experiences, self._macs = 0, 0
        self._rng = np.random.default_rng(config.seed)
        self._step_macs = 3 * sum(level.macs for level in task.bundle.levels)

    def learn(self, part: Part) -> None:
        """Gather an experience."""
        self._new.append(part)
        self.n_taught += len(part.labels)

    def new_experience(self) -> None:
        """Train on what was gathered, then replace a share of the memory."""
        if not self._new:
            return
        x = np.concatenate([part.seen.latents for part in self._new])
        y = np.concatenate([part.labels for part in self._new])
        self._new.clear()
        self._train(x, y)
        self._n_experiences += 1
        self._replace(x, y)

    def finish(self) -> None:
        """Train on the last experience."""
        self.new_experience()

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Contender`."""
        parts = []
        with torch.no_grad():
            for latents in _batches(part.seen.latents):
                features = self._blocks(torch.from_numpy(np.array(latents)))
                parts.append((features @ self._rows.T).argmax(1).numpy())
        return {"": np.concatenate(parts)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Contender`."""
        kept = self._memory[0].nbytes + 4 * len(self._memory[1])
        return {"macs": float(self._macs), "memory_bytes": float(kept)}

    def _train(self, x: np.ndarray, y: np.ndarray) -> None:
        held_x, held_y = self._memory
        classes = np.union1d(y, held_y)
        place = np.searchsorted(classes, np.arange(len(self._rows)))
        new = np.isin(classes, y)
        weight = nn.Parameter(torch.where(
            torch.from_numpy(new)[:, None], torch.zeros(1), self._rows[classes]))  # fmt: skip
        optimizer = torch.optim.SGD([weight, *self._blocks.parameters()], lr=self._lr, momentum=0.9)
        n_new = 11 if len(held_y) else 64
        for _ in range(self._epochs):
            order = self._rng.permutation(len(y))
            for start in range(0, len(y), n_new):
                own = order[start : start + n_new]
                n_held = min(53, len(held_y))
                held = self._rng.permutation(len(held_y))[:n_held]
                batch = torch.from_numpy(np.concatenate([x[own], held_x[held]]))
                target = torch.from_numpy(place[np.concatenate([y[own], held_y[held]])])
                optimizer.zero_grad(set_to_none=True)
                loss = functional.cross_entropy(self._blocks(batch) @ weight.T, target)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self._blocks.parameters(), 5.0)
                optimizer.step()
                self._macs += len(target) * self._step_macs
        self._consolidate(classes, weight.detach(), y)

    def _consolidate(self, classes: np.ndarray, weight: torch.Tensor, y: np.ndarray) -> None:
        """Average the rows of classes met again by how often they were met (CWR*, lines 9-12)."""
        weight = weight - weight.mean()
        counts = torch.bincount(torch.from_numpy(y), minlength=len(self._rows)).float()
        for row, c in zip(weight, classes, strict=True):
            past = torch.sqrt(self._past[c] / counts[c]) if counts[c] else torch.tensor(np.inf)
            if not torch.isinf(past):
                self._rows[c] = (self._rows[c] * past + row) / (past + 1)
            self._past[c] += counts[c]

    def _replace(self, x: np.ndarray, y: np.ndarray) -> None:
        held_x, held_y = self._memory
        free = self._capacity - len(held_y)
        n = min(len(y), max(free, self._capacity // self._n_experiences))
        chosen = self._rng.choice(len(y), n, replace=False)
        keep = self._rng.permutation(len(held_y))[: self._capacity - n]
        self._memory = (
            np.concatenate([held_x[keep], x[chosen]]), np.concatenate([held_y[keep], y[chosen]])
        )  # fmt: skip


class RawReplay(Contender):
    """Train the whole network, rehearsing images kept as JPEG.

    Method: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019: a reservoir,
    as many rehearsed images as new ones in every step.
    """

    MOST_FRAMES = 3000  # a whole network takes seconds a step here
    MOST_TESTED = 1000

    def __init__(self, task: Task, config: AdaptConfig, *, lr: float = 0.01) -> None:
        super().__init__(task, config)
        if len(task.train.labels) > self.MOST_FRAMES:
            raise TooSlow(f"{len(task.train.labels)} frames; at most {self.MOST_FRAMES} are tried")
        bundle = task.narrow
        backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
        self._network = fold_batch_norm(backbone.blocks).eval()
        self._macs_each = 3 * (bundle.manifest["frozen_macs"] + sum(x.macs for x in bundle.levels))
        self._weight = nn.Parameter(torch.zeros(len(task.classes), bundle.feature_width))
        self._optimizer = torch.optim.SGD(
            [
                {"params": [self._weight], "lr": 10 * lr},
                {"params": [*self._network.parameters()], "lr": 0.1 * lr},
            ],
            momentum=0.9,
        )
        self._kept: list[tuple[bytes, int]] = []
        self._n_bytes, self._macs = 0, 0
        self._rng = np.random.default_rng(config.seed)
        task.train.images.get(task.train.rows)

    def learn(self, part: Part) -> None:
        """Make one step of new and rehearsed images, then keep some of the new ones."""
        images, labels = part.images.get(part.rows), part.labels.tolist()
        n_held = min(len(images), len(self._kept))
        for i in self._rng.choice(len(self._kept), n_held, replace=False) if n_held else ():
            data, label = self._kept[i]
            images.append(decode_image(data, "memory"))
            labels.append(label)
        self._optimizer.zero_grad(set_to_none=True)
        scores = self._network(self._input(images)) @ self._weight.T
        functional.cross_entropy(scores, torch.tensor(labels)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), 5.0)
        self._optimizer.step()
        self._macs += len(images) * self._macs_each
        for image, label in zip(images, part.labels, strict=False):
            self._keep(image, int(label))

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Contender`."""
        images, out = part.images.get(part.rows), []
        with torch.no_grad():
            for i in range(0, len(images), 50):
                features = self._network(self._input(images[i : i + 50]))
                out.append((features @ self._weight.T).argmax(1).numpy())
        return {"": np.concatenate(out)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Contender`."""
        return {"macs": float(self._macs), "memory_bytes": float(self._n_bytes)}

    def _input(self, images: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(self.task.narrow.preprocessing(images))

    def _keep(self, image: np.ndarray, label: int) -> None:
        """Reservoir under the budget in bytes."""
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        self.n_taught += 1
        if self._n_bytes + len(file.getvalue()) <= self.config.memory_bytes:
            self._kept.append((file.getvalue(), label))
        else:
            place = int(self._rng.integers(self.n_taught))
            if place >= len(self._kept):
                return
            self._n_bytes -= len(self._kept[place][0])
            self._kept[place] = (file.getvalue(), label)
        self._n_bytes += len(file.getvalue())


def _batches(array: np.ndarray) -> list[np.ndarray]:
    return [array[i : i + _BATCH] for i in range(0, len(array), _BATCH)]
