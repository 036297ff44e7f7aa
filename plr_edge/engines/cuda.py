"""The part of CUDA that TensorRT needs: device memory, a stream, and CUDA graphs.

There are two implementations of the protocol `Cuda`. A process that has torch already uses
`cuda_torch`, so that torch's allocator accounts for the memory. Any other uses `cuda_python`, so
that perception does not need torch.
"""

from __future__ import annotations

import sys
from typing import Any

from plr_edge.engines.cuda_base import Cuda, Device


def open_cuda() -> Cuda:
    """Return the CUDA implementation for this process.

    Raises:
        EngineError: there is no GPU, no driver, or no library to access them.
    """
    torch = _torch()
    if torch is not None:
        from plr_edge.engines.cuda_torch import TorchCuda

        return TorchCuda(torch)
    from plr_edge.engines.cuda_python import PythonCuda

    return PythonCuda()


def describe_device() -> Device:
    """Return the properties of the GPU in use.

    Raises:
        EngineError: there is no GPU, no driver, or no library to access them.
    """
    torch = _torch()
    if torch is not None:
        from plr_edge.engines.cuda_torch import torch_device

        return torch_device(torch)
    from plr_edge.engines.cuda_python import python_device

    return python_device()


def _torch() -> Any:
    """Return torch if this process has imported it and it has a GPU; never import it."""
    torch: Any = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
