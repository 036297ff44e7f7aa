"""Paths of what ships inside the package: pretrained weights and a small real stream."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
MOBILENET_V2_WEIGHTS = _HERE / "mobilenet_v2" / "model.int8.safetensors"
FRUITS = _HERE / "fruits"
