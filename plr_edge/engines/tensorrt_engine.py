"""TensorRTEngine: runs a TensorRT plan on a separate CUDA stream, with NumPy inputs and outputs.

`plan_cache` provides the plans. Nothing here differs between TensorRT 8.6 and 11; the differences
are in `tensorrt_versions`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from plr_edge.engines.cuda import open_cuda
from plr_edge.engines.cuda_base import Cuda
from plr_edge.engines.tensorrt_versions import load_tensorrt, logger_of, scratch_bytes
from plr_edge.errors import EngineError

_FLOAT32_BYTES = 4
_logger = logging.getLogger(__name__)


class PlanRefusedError(EngineError):
    """TensorRT refuses a plan; building it again may help."""


class TensorRTEngine:
    """Run a part from a serialised TensorRT plan.

    Buffers for the largest batch of the plan are allocated once; a larger batch is run in pieces.
    The first run of a batch size is enqueued, the second is captured as a CUDA graph, and later
    runs replay the graph until the size changes.

    Attributes:
        max_batch: largest batch of one run.
        scratch_bytes: device memory that TensorRT takes in addition to weights and buffers.
    """

    def __init__(
        self, plan: bytes, *, outputs: Sequence[str] = (), cuda: Cuda | None = None
    ) -> None:
        """Load the plan and allocate its buffers.

        Args:
            plan: serialised engine with one optimisation profile, one float32 input (B, ...) and
                float32 outputs, as built by `plan_build`.
            outputs: names of the outputs in the order of the model. The default is the order of
                the plan, which may differ.
            cuda: CUDA implementation; that of this process by default.

        Raises:
            PlanRefusedError: the plan is damaged, or was built for another TensorRT or GPU.
            EngineError: TensorRT or the GPU cannot be used, or memory is too short.
        """
        self._trt = load_tensorrt()
        self._log = logger_of(self._trt)
        self._cuda = cuda or open_cuda()
        self._engine = self._deserialized(plan)
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"TensorRT made no execution context ({self._log.reason()}); free memory, or build "
                "with a smaller --max-batch"
            )
        self._context = context
        self._input, self._outputs = self._names(tuple(outputs))
        shapes = self._engine.get_tensor_profile_shape(self._input, 0)  # min, opt, max
        self._item_shape, self.max_batch = tuple(shapes[2])[1:], int(shapes[2][0])
        self.scratch_bytes = scratch_bytes(self._trt, self._engine)
        self._lock = threading.Lock()
        self._batch = 0  # batch size of the last run; 0 before the first
        self._replay: Callable[[], None] | None = None
        self._captures = True
        self._reserve()

    def _deserialized(self, plan: bytes) -> Any:
        self._log.errors = []
        try:
            self._runtime = self._trt.Runtime(self._log)
        except (TypeError, RuntimeError) as error:
            raise EngineError(
                f"TensorRT finds no GPU that it can use ({error}); use --engine onnx"
            ) from None
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanRefusedError(f"TensorRT refuses the plan ({self._log.reason()})")
        return engine

    def _names(self, outputs: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """Return the name of the input, and those of the outputs in the requested order."""
        engine, trt = self._engine, self._trt
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        for name in names:
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                raise EngineError(
                    f"tensor {name!r} of the plan is {engine.get_tensor_dtype(name)}; parts take "
                    "and return float32; export the bundle again"
                )
        modes = [engine.get_tensor_mode(name) for name in names]
        inputs = [n for n, mode in zip(names, modes, strict=True) if mode == trt.TensorIOMode.INPUT]
        found = tuple(name for name in names if name not in inputs)
        if len(inputs) != 1 or sorted(outputs or found) != sorted(found):
            raise PlanRefusedError(
                f"the plan maps {inputs} to {list(found)}; it needs one input and the outputs "
                f"{list(outputs)}"
            )
        return inputs[0], outputs or found

    def _reserve(self) -> None:
        """Allocate buffers for the largest batch, and pass their addresses to TensorRT."""
        self._memory = {}
        for name, shape in {
            self._input: (self.max_batch, *self._item_shape),
            **self._set_batch(self.max_batch),
        }.items():
            self._memory[name] = self._cuda.allocate(math.prod(shape) * _FLOAT32_BYTES)
            if not self._context.set_tensor_address(name, self._memory[name].address):
                raise EngineError(
                    f"TensorRT refuses the address of {name!r} ({self._log.reason()})"
                )

    def _set_batch(self, n: int) -> dict[str, tuple[int, ...]]:
        """Set the batch size; return the shapes of the outputs."""
        shape = (n, *self._item_shape)
        if not self._context.set_input_shape(self._input, shape):
            raise EngineError(f"TensorRT refuses an input of shape {shape} ({self._log.reason()})")
        missing = self._context.infer_shapes()
        if missing:
            raise EngineError(f"TensorRT lacks the shapes of {missing}; export the bundle again")
        return {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run one batch; see `Engine.run`. Safe to call from several threads.

        Raises:
            EngineError: the batch has a wrong shape, or TensorRT fails.
        """
        if batch.shape[1:] != self._item_shape or len(batch) == 0:
            raise EngineError(
                f"the batch has shape {batch.shape}; it takes (B, "
                f"{', '.join(map(str, self._item_shape))}) with B at least 1"
            )
        with self._lock:
            pieces = [
                self._run_piece(batch[i : i + self.max_batch])
                for i in range(0, len(batch), self.max_batch)
            ]
        if len(pieces) == 1:
            return pieces[0]
        return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))

    def _run_piece(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        batch = np.require(batch, np.float32, ["C", "W"])
        self._cuda.upload(self._memory[self._input], batch)
        self._execute(len(batch))
        outputs = []
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            outputs.append(np.empty(shape, np.float32))
            self._cuda.download(self._memory[name], outputs[-1])
        self._cuda.synchronize()
        return tuple(outputs)

    def _execute(self, n: int) -> None:
        """Put one inference on the stream: enqueued for a new batch size, else as a graph."""
        if n != self._batch:
            self._replay, self._batch = None, 0
            self._set_batch(n)
            self._enqueue()  # also the warm-up that a capture needs
            self._batch = n
            return
        if self._replay is None and self._captures:
            try:
                self._replay = self._cuda.capture(self._enqueue)
            except EngineError as error:  # some networks synchronise inside
                self._captures = False
                _logger.warning("this plan runs without a CUDA graph: %s", error)
        if self._replay is None:
            self._enqueue()
        else:
            self._replay()

    def _enqueue(self) -> None:
        self._log.errors = []
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"TensorRT failed to run a batch ({self._log.reason()})")
