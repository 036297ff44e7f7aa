"""Imports TensorRT, and hides the differences between 8.6, 10.x and 11.x.

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
_MAX_ERRORS, _MAX_CHARACTERS = 50, 400
_logger = logging.getLogger(__name__)


def load_tensorrt() -> Any:
    """Return the module tensorrt.

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
            f"TensorRT is installed but cannot be loaded ({error}); on a Jetson, use the one from "
            "JetPack instead of pip, or use --engine onnx"
        ) from error
    if _version(tensorrt) < _OLDEST:
        raise EngineError(
            f"TensorRT is {tensorrt.__version__}; 8.6 or newer is needed, as in JetPack 6; "
            "use --engine onnx"
        )
    return tensorrt


def _version(trt: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:2])


def network_flags(trt: Any) -> int:
    """Return the flags for a network whose precision follows its graph, as far as possible."""
    major = _version(trt)[0]
    if major >= 11:
        return 0
    if major >= 10:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def precision_flags(trt: Any, precision: str) -> list[Any]:
    """Return the builder flags that the precision of the graph needs."""
    if _version(trt)[0] >= 10 or precision == "fp32":
        return []
    return [trt.BuilderFlag.INT8 if precision == "int8" else trt.BuilderFlag.FP16]


def scratch_bytes(trt: Any, engine: Any) -> int:
    """Return the device memory in bytes that one execution context of an engine takes."""
    if _version(trt) >= (10, 1):
        return int(engine.device_memory_size_v2)
    return int(engine.device_memory_size)


@cache  # TensorRT keeps the first logger of a process and ignores later ones
def logger_of(trt: Any) -> Any:
    """Return the TensorRT logger of this process.

    It passes messages on to `logging`. Its attribute `errors` collects errors until it is cleared,
    and `reason()` joins them in one line.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            severities = trt.ILogger.Severity
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                self.errors = [*self.errors, " ".join(msg.split())][-_MAX_ERRORS:]
            level = logging.INFO if severity == severities.WARNING else logging.DEBUG
            _logger.log(level, "%s", msg)

        def reason(self) -> str:
            return "; ".join(self.errors)[:_MAX_CHARACTERS] or "no reason given"

    return Log()
