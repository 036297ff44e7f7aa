"""Load and clocks of a Jetson's GPU from devfreq. Needs no privileges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from plr_edge.files import read_int

# 57000000.gpu: Nano, 17000000.gv11b: Xavier, 17000000.ga10b and .gpu: Orin, gpu-gpc-0: Thor
_GPU = re.compile(r"[0-9a-f]+\.(gpu|gp10b|gv11b|ga10b)|gpu-gpc-\d+")


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """State of the GPU as reported by devfreq; None is unknown.

    Attributes:
        load_share: share of the time that it was busy, 0..1.
        freq_hz: current clock.
        min_freq_hz: lowest clock allowed.
        max_freq_hz: highest clock allowed.
    """

    load_share: float | None
    freq_hz: int | None
    min_freq_hz: int | None
    max_freq_hz: int | None


def read_gpu(sysfs: Path = Path("/sys")) -> GpuState | None:
    """Return the state of the first GPU in devfreq; None if there is none."""
    for folder in sorted((sysfs / "class" / "devfreq").glob("*")):
        if _GPU.fullmatch(folder.name):
            load_permille = read_int(folder / "device" / "load")
            return GpuState(
                load_share=None if load_permille is None else load_permille / 1000,
                freq_hz=read_int(folder / "cur_freq"),
                min_freq_hz=read_int(folder / "min_freq"),
                max_freq_hz=read_int(folder / "max_freq"),
            )
    return None
