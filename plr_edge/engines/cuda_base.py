"""What the two ways to CUDA have in common: the protocol, and what is known of a device."""

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


def free_board_bytes() -> int:
    """Return the free memory of a board whose GPU has none of its own.

    CUDA would leave out what the page cache gives back, and make a context of some 300 MB to say
    it, just before a build needs them.

    Raises:
        EngineError: the kernel does not say.
    """
    available = available_bytes()
    if available is None:
        raise EngineError("cannot read MemAvailable from /proc/meminfo; is /proc mounted?")
    return available
