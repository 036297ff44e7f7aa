"""Spec: how a method of the benchmarks is made, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.data.encoders import MOBILENET
from benchmarks.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How a method is made, and what is known of it.

    Attributes:
        make: benchmark, config, tuned settings -> method.
        vectors: needs latents that are vectors; else a bundle.
        anything: runs on both.
        ours: a setting of plr-edge.
        generated: rehearses from a generator, by settings of `GenerativeConfig`.
        slow: left out of quick runs.
        most_frames: longest stream that is tried.
        most_tested: held-out frames of the final accuracy, None for all.
        tunable: name and default of the setting that `--tune` chooses; the other methods choose
            theirs on the stream itself.
    """

    make: Callable[..., Method]
    vectors: bool = False
    anything: bool = False
    ours: bool = False
    generated: bool = False
    slow: bool = False
    most_frames: int | None = None
    most_tested: int | None = None
    tunable: tuple[str, float] | None = None

    def fits(self, encoder: str) -> bool:
        """Whether a method runs on what an encoder returns."""
        return self.anything or self.vectors == (encoder != MOBILENET)
