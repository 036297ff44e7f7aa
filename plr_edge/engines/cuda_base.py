"""The CUDA protocol that both implementations follow, and the properties of a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from plr_edge.errors import EngineError
from plr_edge.meters import available_bytes


@dataclass(frozen=True)
class Device:
    """The GPU in use.

    Attributes:
        name: name as reported by the driver.
        compute_capability: compute capability, e.g. `8.7`.
        total_bytes: total memory; on a Jetson that of the board.
        free_bytes: memory that a build may use; on a Jetson the memory available on the board.
        integrated: whether it shares memory with the CPU.
    """

    name: str
    compute_capability: str
    total_bytes: int
    free_bytes: int
    integrated: bool


class Memory(Protocol):
    """A block of device memory, freed together with this object."""

    @property
    def address(self) -> int:
        """Address on the device."""
        ...


class Cuda(Protocol):
    """The CUDA calls of the engine. Copies are ordered on `stream` and end at `synchronize`."""

    @property
    def stream(self) -> int:
        """Handle of a separate stream, never 0: the default stream synchronises the device."""
        ...

    def allocate(self, n_bytes: int) -> Memory:
        """Allocate device memory.

        Raises:
            EngineError: there is not enough.
        """
        ...

    def upload(self, memory: Any, array: np.ndarray) -> None:
        """Copy a contiguous, writable array to the device; keep it until `synchronize`."""
        ...

    def download(self, memory: Any, array: np.ndarray) -> None:
        """Copy from the device to a contiguous array; read it after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        ...

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Record the work that `enqueue` puts on the stream.

        Returns:
            A function that puts the same work on the stream again.

        Raises:
            EngineError: the work cannot be captured.
        """
        ...


def free_board_bytes() -> int:
    """Return the available memory of a board whose GPU shares it with the CPU.

    CUDA's figure does not count what the page cache could give back. Asking for it also creates a
    context of some 300 MB, just before a build needs the memory.

    Raises:
        EngineError: /proc/meminfo cannot be read.
    """
    available = available_bytes()
    if available is None:
        raise EngineError("cannot read MemAvailable from /proc/meminfo; mount /proc")
    return available
