"""Teaches one label after another, saves as a board would, and looks at memory and disk.

soak.py BUNDLE STATE N_LABELS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.meters import process_memory
from plr_edge.runtime.session import Session
from plr_edge.stream import open_stream
from plr_edge.stream.base import Frame

_SAVE_EVERY = 300  # labels: one a second, one generation in five minutes
_LOOKS = 20


def main() -> None:
    bundle, state, n = open_bundle(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    config = LearningConfig(memory_bytes=1_000_000, label_bytes=4_000_000, train_ratio=0.01)
    frames = list(open_stream("demo", limit_per_class=10))
    rng, looks = np.random.default_rng(0), []
    with Session(bundle, state, config) as session:
        seen = session.perception.perceive(frames)
        written = write_bytes()
        for i in range(n):
            at = int(rng.integers(len(frames)))
            frame = frames[at]
            source = f"{frame.source} {i}"
            session.observe_features(
                [Frame(frame.image, frame.label, i, source, i)], seen.take([at])
            )
            if i % _SAVE_EVERY == _SAVE_EVERY - 1:
                session.save("on time", within_budget=True)
            if i % (n // _LOOKS) == n // _LOOKS - 1:
                looks.append(
                    {
                        "labels": i + 1,
                        "rss_mb": process_memory()["rss_bytes"] / 1e6,
                        "state_mb": session.store.n_bytes / 1e6,
                    }
                )
        per_label = (write_bytes() - written) / n
    print(json.dumps({"looks": looks, "gb_a_day": per_label * 86_400 / 1e9, "labels": n}))


def write_bytes() -> int:
    """Bytes that this process caused to be sent to the device."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
