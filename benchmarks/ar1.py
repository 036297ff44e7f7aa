"""AR1-like latent replay: mini-batches of an experience, and a classifier that is consolidated."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import Method
from benchmarks.datasets import Part
from benchmarks.rehearsers import batches
from benchmarks.scenarios import Task
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks


class Ar1(Method):
    """Latent replay at the cut with a plain classifier whose rows are consolidated.

    Method: Pellegrini et al., "Latent Replay for Real-Time Continual Learning", IROS 2020, with
    the layers before the replay layer frozen: float latents, random replacement of a share of the
    memory after each experience, several epochs of mini-batches that mix new and replayed 1 : 5;
    CWR* of Lomonaco et al., "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches",
    CVPR workshops 2020, algorithm 1, for the classifier.
    """

    def __init__(self, task: Task, config: LearningConfig, *, lr: float = 0.003, epochs: int = 4
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

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """Frames of the experience that is being gathered."""
        return sum(len(part.labels) for part in self._new)

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
        """Answer; see `Method`."""
        parts = []
        with torch.no_grad():
            for latents in batches(part.seen.latents):
                features = self._blocks(torch.from_numpy(np.array(latents)))
                parts.append((features @ self._rows.T).argmax(1).numpy())
        return {"": np.concatenate(parts)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
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
