"""Progress of long work, on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Any

_EVERY_S = 10.0  # between two lines where standard error is no terminal
_TERMINAL_S = 0.1  # between two updates of the line on a terminal


class AdaptProgress:
    """Frames per second, accuracy so far, classes, and the share of time spent learning.

    One line that is written over on a terminal; elsewhere a line every ten seconds.
    """

    def __init__(self, n_frames: int | None) -> None:
        """Show nothing yet; `n_frames` is None if only the end of the stream will tell."""
        self._of = "" if n_frames is None else f" of {n_frames}"
        self._terminal = sys.stderr.isatty()
        self._shown_s = time.monotonic() if not self._terminal else 0.0

    def __enter__(self) -> AdaptProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def update(self, n_frames: int, facts: dict[str, Any]) -> None:
        """Show how far the work is."""
        now = time.monotonic()
        if now - self._shown_s < (_TERMINAL_S if self._terminal else _EVERY_S):
            return
        self._shown_s = now
        accuracy = facts["prequential_accuracy"]
        text = (
            f"{n_frames}{self._of} frames, {facts['frames_per_s']:.0f}/s, "
            + (f"{accuracy:.1%} right, " if accuracy is not None else "")
            + f"{facts['n_classes']} classes, {facts['learn_share']:.0%} learning"
        )
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr)
