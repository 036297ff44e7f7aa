"""Progress of `plr-edge adapt`, on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Any

_EVERY_S = 10.0  # between two lines if standard error is not a terminal
_TERMINAL_S = 0.1  # between two updates of the line on a terminal


class AdaptProgress:
    """Shows frames per second, accuracy, classes, and the share of time spent learning.

    A terminal shows one line that is overwritten. Elsewhere a line is printed every ten seconds.
    """

    def __init__(self, n_frames: int | None) -> None:
        """Prepare. `n_frames` is None if it is known only at the end of the stream."""
        self._of = "" if n_frames is None else f" of {n_frames}"
        self._terminal = sys.stderr.isatty()
        self._printed_at = time.monotonic() if not self._terminal else 0.0

    def __enter__(self) -> AdaptProgress:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def update(self, n_frames: int, summary: Any) -> None:
        """Show the progress.

        Args:
            n_frames: frames processed so far.
            summary: summary so far, as returned by `adapt`.
        """
        now = time.monotonic()
        if now - self._printed_at < (_TERMINAL_S if self._terminal else _EVERY_S):
            return
        self._printed_at = now
        accuracy = summary.prequential_accuracy
        text = (
            f"{n_frames}{self._of} frames, {summary.frames_per_s:.0f}/s, "
            + (f"{accuracy:.1%} correct, " if accuracy is not None else "")
            + f"{summary.n_classes} classes, {summary.learn_share:.0%} learning"
        )
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr)
