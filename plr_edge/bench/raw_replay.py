"""Replay of raw images: the whole network is trained, and images are kept as JPEG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bench.contenders import Contender, TooSlow
from plr_edge.bench.datasets import Part
from plr_edge.bench.scenarios import Task
from plr_edge.config import AdaptConfig
from plr_edge.stream.decode import decode_image


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
