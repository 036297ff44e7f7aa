"""Where TensorRT is imported, and where 8.6, 10.x and 11.x differ; nothing else looks at a version.

                   8.x                     10.x                    11.x
network flag       EXPLICIT_BATCH          STRONGLY_TYPED          none, always strongly typed
fp16, int8         BuilderFlag             from the graph          from the graph
scratch size       device_memory_size      ..._v2, from 10.1 on    ..._v2
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any

from plr_edge.errors import EngineError

_OLDEST = (8, 6)
_MOST_ERRORS, _MOST_CHARACTERS = 50, 400
_logger = logging.getLogger(__name__)


def load_tensorrt() -> Any:
    """Return the module.

    Raises:
        EngineError: it is not installed, cannot be loaded, or is too old.
    """
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        raise EngineError(
            "TensorRT is not installed; on a Jetson it comes with JetPack (the virtual "
            "environment needs --system-site-packages), elsewhere use --engine onnx"
        ) from error
    except ImportError as error:
        raise EngineError(
            f"TensorRT is there but cannot be loaded ({error}); on a Jetson use the one of "
            "JetPack, not that of pip, or use --engine onnx"
        ) from error
    if _version(tensorrt) < _OLDEST:
        raise EngineError(
            f"TensorRT is {tensorrt.__version__}; 8.6 or newer is needed, which JetPack 6 brings; "
            "use --engine onnx"
        )
    return tensorrt


def _version(trt: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:2])


def network_flags(trt: Any) -> int:
    """Return the flags of a network whose precision is that of its graph, as far as possible."""
    major = _version(trt)[0]
    if major >= 11:
        return 0
    if major >= 10:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def precision_flags(trt: Any, precision: str) -> list[Any]:
    """Return the builder flags without which the graph's precision would not be used."""
    if _version(trt)[0] >= 10 or precision == "fp32":
        return []
    return [trt.BuilderFlag.INT8 if precision == "int8" else trt.BuilderFlag.FP16]


def scratch_bytes(trt: Any, engine: Any) -> int:
    """Return the device memory that one execution context of an engine takes."""
    if _version(trt) >= (10, 1):
        return int(engine.device_memory_size_v2)
    return int(engine.device_memory_size)


@cache  # TensorRT keeps the first logger of a process, whatever it is given later
def log_of(trt: Any) -> Any:
    """Return the process's TensorRT logger.

    Its `errors` are what TensorRT complained of since they were last cleared, its words go to
    `logging`; `why()` is the errors in one line.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            severities = trt.ILogger.Severity
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                self.errors = [*self.errors, " ".join(msg.split())][-_MOST_ERRORS:]
            level = logging.INFO if severity == severities.WARNING else logging.DEBUG
            _logger.log(level, "%s", msg)

        def why(self) -> str:
            return "; ".join(self.errors)[:_MOST_CHARACTERS] or "it gives no reason"

    return Log()
