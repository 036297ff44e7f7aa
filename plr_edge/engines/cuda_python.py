"""CUDA through cuda-python, for processes without torch; see `cuda_base.Cuda`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from plr_edge.engines.cuda_base import Device, Memory, free_board_bytes
from plr_edge.errors import EngineError


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(
            f"cuda-python cannot be imported ({error}); without torch, TensorRT needs it: "
            "`pip install 'cuda-bindings==12.*'` on JetPack 6, 'cuda-bindings==13.*' on "
            "JetPack 7, or use --engine onnx"
        ) from error
    return runtime


def python_device() -> Device:
    """Return the properties of the GPU in use; see `cuda.describe_device`."""
    runtime = _runtime()
    (index,) = _checked(runtime.cudaGetDevice())
    (properties,) = _checked(runtime.cudaGetDeviceProperties(index))
    if properties.integrated:
        free = free_board_bytes()
    else:
        free, _ = _checked(runtime.cudaMemGetInfo())
    name = properties.name.decode("utf-8", "replace").strip("\0")
    capability = f"{properties.major}.{properties.minor}"
    return Device(name, capability, properties.totalGlobalMem, free, bool(properties.integrated))


def _checked(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values of a CUDA call without its status.

    Raises:
        EngineError: the status is an error.
    """
    status, *values = result
    if int(status) != 0:
        raise EngineError(
            f"CUDA reports {status.name}; look at `nvidia-smi` and `dmesg`, or use --engine onnx"
        )
    return tuple(values)


class _Block:
    """Device memory allocated by cuda-python."""

    def __init__(self, runtime: Any, n_bytes: int) -> None:
        (self.address,) = map(int, _checked(runtime.cudaMalloc(n_bytes)))
        weakref.finalize(self, runtime.cudaFree, self.address).atexit = False


class _Graph:
    """A captured CUDA graph."""

    def __init__(self, runtime: Any, graph: Any, stream: Any) -> None:
        (executable,) = _checked(runtime.cudaGraphInstantiate(graph, 0))
        weakref.finalize(self, runtime.cudaGraphExecDestroy, executable).atexit = False
        self._runtime, self._executable, self._stream = runtime, executable, stream

    def __call__(self) -> None:
        _checked(self._runtime.cudaGraphLaunch(self._executable, self._stream))


class PythonCuda:
    """CUDA through cuda-python; see `Cuda`."""

    def __init__(self) -> None:
        """Create the stream.

        Raises:
            EngineError: cuda-python is not installed, or finds no GPU.
        """
        runtime = _runtime()
        (stream,) = _checked(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        weakref.finalize(self, runtime.cudaStreamDestroy, stream).atexit = False
        self._runtime, self._stream = runtime, stream

    @property
    def stream(self) -> int:
        """See `Cuda.stream`."""
        return int(self._stream)

    def allocate(self, n_bytes: int) -> Memory:
        """See `Cuda.allocate`."""
        return _Block(self._runtime, n_bytes)

    def upload(self, memory: Any, array: np.ndarray) -> None:
        """See `Cuda.upload`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(memory.address, array.ctypes.data, array.nbytes, kind)

    def download(self, memory: Any, array: np.ndarray) -> None:
        """See `Cuda.download`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, memory.address, array.nbytes, kind)

    def _copy(self, target: int, source: int, n_bytes: int, kind: Any) -> None:
        _checked(self._runtime.cudaMemcpyAsync(target, source, n_bytes, kind, self._stream))

    def synchronize(self) -> None:
        """See `Cuda.synchronize`."""
        _checked(self._runtime.cudaStreamSynchronize(self._stream))

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """See `Cuda.capture`."""
        runtime = self._runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(runtime.cudaStreamBeginCapture(self._stream, mode))
        try:
            enqueue()
        finally:
            result = runtime.cudaStreamEndCapture(self._stream)
        (graph,) = _checked(result)
        try:
            return _Graph(runtime, graph, self._stream)
        finally:
            runtime.cudaGraphDestroy(graph)
