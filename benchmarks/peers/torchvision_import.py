"""Lets torchvision be imported beside a torch that its compiled part was not built for.

The wheel on the package index is built for CUDA; beside a CPU torch its operators do not load, and
the import stops where it describes the first of them. Peers import torchvision for its data sets
and transforms, and need no operator: declaring the missing ones is enough.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def make_importable() -> None:
    """Import torchvision, declaring operators until nothing is missing."""
    while True:
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if not missing:
                raise
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            _declared.define(missing[1] + _SCHEMA)
        else:
            return
