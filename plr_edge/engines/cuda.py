"""Device memory, one stream of its own, CUDA graphs: all that TensorRT needs of CUDA.

Two implementations of one small protocol: `cuda_torch` where the process has torch already, so that
its allocator sees what is taken, else `cuda_python`, so that perception stays without torch.
"""

from __future__ import annotations

import sys
from typing import Any

from plr_edge.engines.cuda_base import Cuda, Device


def open_cuda() -> Cuda:
    """Return the implementation for this process.

    Raises:
        EngineError: there is no GPU, no driver, or nothing to reach them with.
    """
    torch = _torch()
    if torch is not None:
        from plr_edge.engines.cuda_torch import TorchCuda

        return TorchCuda(torch)
    from plr_edge.engines.cuda_python import PythonCuda

    return PythonCuda()


def describe_device() -> Device:
    """Return the facts of the GPU in use.

    Raises:
        EngineError: there is no GPU, no driver, or nothing to reach them with.
    """
    torch = _torch()
    if torch is not None:
        from plr_edge.engines.cuda_torch import torch_device

        return torch_device(torch)
    from plr_edge.engines.cuda_python import python_device

    return python_device()


def _torch() -> Any:
    """Return torch where this process has it with a GPU; never import it."""
    torch: Any = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
