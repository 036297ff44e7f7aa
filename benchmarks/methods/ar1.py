"""AR1-like latent replay: mini-batches of an experience, and a consolidated classifier."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Gathering, sgd_macs
from benchmarks.methods.rehearsal import blocks_output
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks

_N_NEW, _N_HELD = 11, 53  # samples of a mini-batch, 1 : 5


class Ar1(Gathering):
    """Latent replay at the cut with a plain classifier whose rows are consolidated.

    Method: Pellegrini et al., "Latent Replay for Real-Time Continual Learning", IROS 2020, with
    the layers before the replay layer frozen: float latents, random replacement of a share of the
    memory after each experience, several epochs of mini-batches that mix new and replayed 1 : 5.
    CWR* of Lomonaco et al., "Rehearsal-Free Continual Learning over Small Non-I.I.D. Batches",
    CVPR workshops 2020, algorithm 1, for the classifier.
    """

    def __init__(
        self, benchmark: Benchmark, config: LearningConfig, *, lr: float = 0.003, epochs: int = 4
    ) -> None:
        super().__init__(benchmark, config)
        bundle = benchmark.bundle
        self._blocks = adaptive_blocks(bundle).eval()
        self._epochs, self._lr = epochs, lr
        self._rows = torch.zeros(len(benchmark.classes), bundle.feature_width)
        self._past = torch.zeros(len(benchmark.classes))
        width = int(np.prod(bundle.latent_shape))
        self._capacity = max(1, config.memory_bytes // (4 * width + 4))
        self._memory = (np.zeros((0, *bundle.latent_shape), np.float32), np.zeros(0, int))
        self._n_experiences, self._macs = 0, 0
        self._rng = np.random.default_rng(config.seed)
        self._block_macs = sum(level.macs for level in bundle.levels[:-1])

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on an experience, then replace a share of the memory; see `Gathering`."""
        classes = np.union1d(y, self._memory[1])
        weight = self._fit(x, y, classes)
        self._consolidate(classes, weight, y)
        self._n_experiences += 1
        self._replace(x, y)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        features = torch.from_numpy(blocks_output(self._blocks, split.seen.latents))
        return {"": (features @ self._rows.T).argmax(1).numpy()}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        kept = self._memory[0].nbytes + 4 * len(self._memory[1])
        return {"macs": float(self._macs), "memory_bytes": float(kept)}

    def _fit(self, x: np.ndarray, y: np.ndarray, classes: np.ndarray) -> torch.Tensor:
        """Train blocks and rows of `classes`; return the rows (len(classes), D)."""
        held_x, held_y = self._memory
        place = np.searchsorted(classes, np.arange(len(self._rows)))
        new = torch.from_numpy(np.isin(classes, y))[:, None]
        weight = nn.Parameter(torch.where(new, torch.zeros(1), self._rows[classes]))
        optimizer = torch.optim.SGD([weight, *self._blocks.parameters()], lr=self._lr, momentum=0.9)
        n_new = _N_NEW if len(held_y) else _N_NEW + _N_HELD
        for _ in range(self._epochs):
            order = self._rng.permutation(len(y))
            for start in range(0, len(y), n_new):
                own = order[start : start + n_new]
                held = self._rng.permutation(len(held_y))[:_N_HELD]
                batch = torch.from_numpy(np.concatenate([x[own], held_x[held]]))
                target = torch.from_numpy(place[np.concatenate([y[own], held_y[held]])])
                optimizer.zero_grad(set_to_none=True)
                loss = functional.cross_entropy(self._blocks(batch) @ weight.T, target)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self._blocks.parameters(), 5.0)
                optimizer.step()
                self._macs += 3 * len(target) * (self._block_macs + weight.numel())
                self._macs += sgd_macs([weight, *self._blocks.parameters()])
        return weight.detach()

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
