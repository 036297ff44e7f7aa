"""CUDA through torch, for processes that have imported it; see `cuda_base.Cuda`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from plr_edge.engines.cuda_base import Device, Memory, free_board_bytes
from plr_edge.errors import EngineError


def torch_device(torch: Any) -> Device:
    """Return the properties of the GPU in use; see `cuda.describe_device`."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    free = free_board_bytes() if properties.is_integrated else int(torch.cuda.mem_get_info()[0])
    capability, total = f"{properties.major}.{properties.minor}", int(properties.total_memory)
    return Device(str(properties.name), capability, total, free, bool(properties.is_integrated))


class _Tensor:
    """Device memory allocated by torch."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def address(self) -> int:
        return int(self.tensor.data_ptr())


class TorchCuda:
    """CUDA through torch; see `Cuda`."""

    def __init__(self, torch: Any) -> None:
        """Create the stream.

        Args:
            torch: the module; it is never imported here.
        """
        self._torch, self._stream = torch, torch.cuda.Stream()

    @property
    def stream(self) -> int:
        """See `Cuda.stream`."""
        return int(self._stream.cuda_stream)

    def allocate(self, n_bytes: int) -> Memory:
        """See `Cuda.allocate`."""
        torch = self._torch
        try:
            with torch.cuda.stream(self._stream):
                return _Tensor(torch.empty(n_bytes, dtype=torch.uint8, device="cuda"))
        except RuntimeError as error:
            raise EngineError(
                f"torch cannot allocate {n_bytes} bytes of GPU memory ({error}); "
                "stop other programs on the GPU"
            ) from None

    def upload(self, memory: Any, array: np.ndarray) -> None:
        """See `Cuda.upload`."""
        with self._torch.cuda.stream(self._stream):
            memory.tensor[: array.nbytes].copy_(self._bytes_of(array), non_blocking=True)

    def download(self, memory: Any, array: np.ndarray) -> None:
        """See `Cuda.download`."""
        with self._torch.cuda.stream(self._stream):
            self._bytes_of(array).copy_(memory.tensor[: array.nbytes], non_blocking=True)

    def _bytes_of(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array.reshape(-1).view(np.uint8))

    def synchronize(self) -> None:
        """See `Cuda.synchronize`."""
        self._stream.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """See `Cuda.capture`."""
        torch, graph = self._torch, self._torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph, stream=self._stream, capture_error_mode="thread_local"
            ):  # other threads may train
                enqueue()
        except RuntimeError as error:
            raise EngineError(f"torch cannot capture a CUDA graph ({error})") from None

        def replay() -> None:
            with torch.cuda.stream(self._stream):
                graph.replay()

        return replay
