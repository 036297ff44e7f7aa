"""What several tests do with `plr-edge adapt`: pictures in, counts of labels out."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
from PIL import Image

from plr_edge.store import LEARNED, QUARANTINED, Store


def put(folder, seed, n):
    """Write `n` pictures that no other seed has."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(n):
        pixels = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def taught(state, status=(LEARNED, QUARANTINED)):
    with Store(state) as store:
        return Counter(label.name for label in store.labels if label.status in status)


def summary(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result, *words):
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    (line,) = [line for line in result.stderr.splitlines() if line]
    for word in words:
        assert word in line, line
