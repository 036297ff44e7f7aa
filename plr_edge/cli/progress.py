"""Progress bar of `plr-edge adapt`, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class AdaptProgress:
    """Shows frames per second, accuracy, classes, and the share of time spent learning."""

    def __init__(self, n_frames: int | None) -> None:
        """Prepare a bar if standard error is a terminal, else one line every ten seconds."""
        self._printed_at = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.completed} frames"),
            BarColumn(),
            TextColumn("{task.fields[summary]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._terminal,
        )
        self._task = self._bar.add_task("", total=n_frames, summary="")

    def __enter__(self) -> AdaptProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, n_frames: int, summary: Any) -> None:
        """Show the progress.

        Args:
            n_frames: frames processed so far.
            summary: summary so far, as returned by `adapt`.
        """
        accuracy = summary.prequential_accuracy
        text = (
            f"{summary.frames_per_s:.0f}/s, "
            + (f"{accuracy:.1%} correct, " if accuracy is not None else "")
            + f"{summary.n_classes} classes, {summary.learn_share:.0%} learning"
        )
        self._bar.update(self._task, completed=n_frames, summary=text)
        if not self._terminal and time.monotonic() - self._printed_at > 10:
            self._printed_at = time.monotonic()
            print(f"{n_frames} frames, {text}", file=sys.stderr)
