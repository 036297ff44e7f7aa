"""TaughtFrames: which frames were taught lately, to question the same frame under another name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from plr_edge.runtime.prediction import FrozenOutput

_MAX_FRAMES = 4096


class TaughtFrames:
    """Labels of the frames that were taught since the start, the newest `_MAX_FRAMES` of them."""

    def __init__(self) -> None:
        """Start empty."""
        self._labels: OrderedDict[bytes, str] = OrderedDict()

    def doubt(self, encoded: FrozenOutput, label: str) -> str:
        """Return why a label is doubted. Empty if it is not.

        Args:
            encoded: output of the frozen part for the frame.
            label: class that the frame is to be taught as.
        """
        known = self._labels.get(_digest(encoded), label)
        return "" if known == label else f"the same frame was taught as {known}"

    def add(self, encoded: Iterable[FrozenOutput], label: str) -> None:
        """Note frames that were taught. The first name of a frame stays."""
        for each in encoded:
            self._labels.setdefault(_digest(each), label)
        while len(self._labels) > _MAX_FRAMES:
            self._labels.popitem(last=False)

    def clear(self) -> None:
        """Forget all of them, because labels were taken back."""
        self._labels.clear()


def _digest(encoded: FrozenOutput) -> bytes:
    return blake2b(encoded.latents.tobytes() + encoded.taps.tobytes(), digest_size=16).digest()
