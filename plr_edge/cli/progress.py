"""The progress bar of long work, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class AdaptProgress:
    """Frames per second, accuracy so far, classes, and the share of time spent learning."""

    def __init__(self, n_frames: int | None) -> None:
        """Show a bar where standard error is a terminal, a line now and then where it is not."""
        self._n_frames, self._start, self._said = n_frames, time.monotonic(), time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.completed} frames"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._terminal,
        )
        self._task = self._bar.add_task("", total=n_frames, facts="")

    def __enter__(self) -> AdaptProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, n_frames: int, summary: Any) -> None:
        """Show where the work stands."""
        accuracy = summary.prequential_accuracy
        text = (
            f"{summary.frames_per_s:.0f}/s, "
            + (f"{accuracy:.1%} right, " if accuracy is not None else "")
            + f"{summary.n_classes} classes, {summary.learn_share:.0%} learning"
        )
        self._bar.update(self._task, completed=n_frames, facts=text)
        if not self._terminal and time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            print(f"{n_frames} frames, {text}", file=sys.stderr)
