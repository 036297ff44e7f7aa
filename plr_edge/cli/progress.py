"""Progress of long commands, on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

P = TypeVar("P", bound="_Progress")

_EVERY_S = 10.0  # between two lines if standard error is not a terminal
_TERMINAL_S = 0.1  # between two updates of the line on a terminal


class _Progress:
    """Shows one line of text.

    A terminal shows one line that is overwritten. Elsewhere a line is printed every ten seconds.
    """

    def __init__(self) -> None:
        """Show nothing yet."""
        self._terminal = sys.stderr.isatty()
        self._printed_at = time.monotonic() if not self._terminal else 0.0

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _show(self, text: Callable[[], str]) -> None:
        """Show a text, unless the one before was shown a moment ago."""
        now = time.monotonic()
        if now - self._printed_at < (_TERMINAL_S if self._terminal else _EVERY_S):
            return
        self._printed_at = now
        if self._terminal:
            line = text()[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(text(), file=sys.stderr)


class AdaptProgress(_Progress):
    """Shows frames per second, accuracy, classes, and the share of time spent learning."""

    def __init__(self, n_frames: int | None) -> None:
        """Prepare. `n_frames` is None if it is known only at the end of the stream."""
        super().__init__()
        self._of = "" if n_frames is None else f" of {n_frames}"

    def update(self, n_frames: int, summary: Any) -> None:
        """Show the progress.

        Args:
            n_frames: frames processed so far.
            summary: summary so far, as returned by `adapt`.
        """

        def text() -> str:
            accuracy = summary.prequential_accuracy
            correct = f"{accuracy:.1%} correct, " if accuracy is not None else ""
            return (
                f"{n_frames}{self._of} frames, {summary.frames_per_s:.0f}/s, {correct}"
                f"{summary.n_classes} classes, {summary.learn_share:.0%} learning"
            )

        self._show(text)


class ConsolidationProgress(_Progress):
    """Shows how much of the budget of a consolidation is spent.

    Attributes:
        n_steps: training steps so far.
    """

    def __init__(self) -> None:
        """Prepare."""
        super().__init__()
        self.n_steps = 0

    def update(self, progress: Any) -> None:
        """Show a `Progress` of `runtime/consolidation.py`."""
        self.n_steps = progress.n_steps
        self._show(
            lambda: (
                f"{progress.share:.0%} of the budget, {progress.n_steps} training steps, "
                f"{progress.left_s:.0f} s left"
            )
        )
