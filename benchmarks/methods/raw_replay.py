"""Replay of raw images: the whole network is trained and images are kept as JPEG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Method, sgd_macs
from benchmarks.scenarios import Benchmark
from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.config import LearningConfig
from plr_edge.replay.cosine_classifier import COSINE_SCALE
from plr_edge.stream.decode import decode_image

_PRIOR_DECAY, _LEAST_PRIOR = 0.95, 1e-4  # of label frequencies in the loss, as in `Learner`


class RawReplay(Method):
    """Train the whole network, rehearsing images kept as JPEG.

    Method: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019: a reservoir,
    rehearsed beside the new images in every step. Batch, cosine classifier, imprinted rows and the
    correction for label frequency are those of every other method here that trains blocks.
    """

    reads_latents = False

    def __init__(self, benchmark: Benchmark, config: LearningConfig, *, lr: float = 0.002) -> None:
        super().__init__(benchmark, config)
        bundle = benchmark.bundle
        backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
        self._network = fold_batch_norm(backbone.blocks).eval()
        blocks = sum(level.macs for level in bundle.levels[:-1])
        self._macs_each = 3 * (bundle.manifest["frozen_macs"] + blocks)
        self._weight = nn.Parameter(
            torch.full((len(benchmark.classes), bundle.feature_width), 1e-3)
        )
        self._optimizer = torch.optim.SGD(
            [
                {"params": [self._weight], "lr": config.classifier_lr},
                {"params": [*self._network.parameters()], "lr": lr},
            ],
            momentum=config.momentum,
        )
        self._frequency = torch.zeros(len(benchmark.classes))
        self._known: set[int] = set()
        self._kept: list[tuple[bytes, int]] = []
        self._n_bytes, self._macs = 0, 0
        self._rng = np.random.default_rng(config.seed)
        benchmark.train.images.get(benchmark.train.rows)

    def learn(self, split: Split) -> None:
        """Make one step of new and rehearsed images, then keep some of the new ones."""
        new, labels = split.images.get(split.rows), split.labels.tolist()
        self._imprint(new, labels)
        n_held = min(self.config.rehearsed_per_step, len(self._kept))
        chosen = self._rng.choice(len(self._kept), n_held, replace=False) if n_held else []
        held = [self._kept[i] for i in chosen]
        images = [*new, *(decode_image(data, "memory") for data, _ in held)]
        self._step(images, torch.tensor([*labels, *(label for _, label in held)]))
        for image, label in zip(new, labels, strict=True):
            self._keep(image, label)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        images, out = split.images.get(split.rows), []
        with torch.no_grad():
            for i in range(0, len(images), 50):
                out.append(self._logits(images[i : i + 50]).argmax(1).numpy())
        return {"": np.concatenate(out)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        return {"macs": float(self._macs), "memory_bytes": float(self._n_bytes)}

    def _step(self, images: list[np.ndarray], y: torch.Tensor) -> None:
        share = torch.bincount(y, minlength=len(self._frequency)) / len(y)
        self._frequency = _PRIOR_DECAY * self._frequency + (1 - _PRIOR_DECAY) * share
        self._optimizer.zero_grad(set_to_none=True)
        logits = self._logits(images) + torch.log(self._frequency + _LEAST_PRIOR)
        functional.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), 5.0)
        self._optimizer.step()
        each = self._macs_each + 3 * self._weight.numel()
        self._macs += len(images) * each + sgd_macs([self._weight, *self._network.parameters()])

    def _imprint(self, images: list[np.ndarray], labels: list[int]) -> None:
        """Set the row of a class that is new to the mean of its features."""
        for label in set(labels) - self._known:
            with torch.no_grad():
                own = [image for image, y in zip(images, labels, strict=True) if y == label]
                features = functional.normalize(self._network(self._input(own))).mean(0)
                self._macs += len(own) * self._macs_each // 3
                self._weight[label] = functional.normalize(features, dim=0)
        self._known |= set(labels)

    def _logits(self, images: list[np.ndarray]) -> torch.Tensor:
        features = functional.normalize(self._network(self._input(images)))
        return COSINE_SCALE * features @ functional.normalize(self._weight).T

    def _input(self, images: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(self.benchmark.bundle.preprocessing(images))

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
