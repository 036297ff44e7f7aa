"""Device memory, one stream of its own, CUDA graphs: all that TensorRT needs of CUDA.

Two implementations of one small protocol: `cuda_torch` where the process has torch already, so that
its allocator sees what is taken, else `cuda_python`, so that perception stays without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import psutil


@dataclass(frozen=True)
class Device:
    """The GPU in use.

    Attributes:
        name: as the driver says it.
        compute_capability: such as `8.7`.
        total_bytes: its memory; on a Jetson that of the board.
        free_bytes: what a build may count on; on a Jetson what the kernel calls available.
        integrated: it shares the processor's memory.
    """

    name: str
    compute_capability: str
    total_bytes: int
    free_bytes: int
    integrated: bool


class Memory(Protocol):
    """A block of device memory, freed with the object."""

    @property
    def address(self) -> int:
        """Where it lies on the device."""
        ...


class Cuda(Protocol):
    """What the engine asks of CUDA; copies are ordered on `stream` and end at `synchronize`."""

    @property
    def stream(self) -> int:
        """Handle of a stream of its own, never 0: the default one synchronises the device."""
        ...

    def allocate(self, n_bytes: int) -> Memory:
        """Reserve device memory."""
        ...

    def upload(self, memory: Any, array: np.ndarray) -> None:
        """Copy a contiguous, writable array, which must live until `synchronize`."""
        ...

    def download(self, memory: Any, array: np.ndarray) -> None:
        """Fill a contiguous array, which may be read after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Wait until the stream has done everything."""
        ...

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Record what `enqueue` puts on the stream; return what puts it there again.

        Raises:
            EngineError: it cannot be recorded.
        """
        ...


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


def free_board_bytes() -> int:
    """Return the free memory of a board whose GPU has none of its own.

    CUDA would leave out what the page cache gives back, and make a context of some 300 MB to say
    it, just before a build needs them.
    """
    return int(psutil.virtual_memory().available)


def _torch() -> Any:
    """Return torch where this process has it with a GPU; never import it."""
    torch: Any = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
