"""WindowEngine: an adaptive part that was trained on a window of the latents."""

from __future__ import annotations

import numpy as np

from plr_edge.engines import Engine
from plr_edge.replay.window import Window


class WindowEngine:
    """Run an engine on the central window of each latent."""

    def __init__(self, engine: Engine, window: Window) -> None:
        """Wrap an engine.

        Args:
            engine: takes windows.
            window: cuts them from whole latents.
        """
        self._engine, self._window = engine, window

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run a batch of whole latents (n, C, H, W); see `Engine.run`."""
        return self._engine.run(self._window.cut(batch))
