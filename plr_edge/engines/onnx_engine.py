"""OnnxEngine: runs a part with ONNX Runtime. The only module that imports it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime

from plr_edge.errors import ConfigError, EngineError, one_line

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxEngine:
    """Run a part with ONNX Runtime. The model is given as bytes, never as a path."""

    def __init__(
        self, model: bytes, n_threads: int = 1, providers: tuple[str, ...] = (), *,
        optimise: bool = True,
    ) -> None:  # fmt: skip
        """Build the engine.

        Args:
            model: serialised ONNX model without external data.
            n_threads: threads within an operator; more than there are free cores slow it down.
            providers: execution providers by their name in ONNX Runtime, best first; the CPU by
                default.
            optimise: let ONNX Runtime rewrite the graph; without it every value can be an output.

        Raises:
            EngineError: the model is damaged, or ONNX Runtime cannot run it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=list(providers) or ["CPUExecutionProvider"]
            )
        except Exception as error:  # the exceptions of ONNX Runtime have no common base class
            raise EngineError(
                f"ONNX Runtime cannot load this part ({_one_line(error)}); export the bundle again"
            ) from None
        missing = [name for name in providers if name not in self._session.get_providers()]
        if missing:  # ONNX Runtime falls back silently
            raise EngineError(
                f"ONNX Runtime could not start {missing[0]}; install the libraries that it was "
                "built for, or use --providers cpu"
            )
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run one batch; see `Engine.run`.

        Raises:
            EngineError: the batch has a wrong shape, or the run fails.
        """
        try:
            return tuple(self._session.run(None, {self._input: batch}))
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed on a batch of {batch.shape} ({_one_line(error)})"
            ) from None


def provider_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of execution providers in ONNX Runtime.

    Args:
        names: `cpu`, `cuda` or `tensorrt` each.

    Raises:
        ConfigError: a provider is unknown.
        EngineError: the installed ONNX Runtime was built without it.

    Example:
        >>> provider_names(["cpu"])
        ('CPUExecutionProvider',)
    """
    available = set(onnxruntime.get_available_providers()) & set(_PROVIDERS.values())
    for name in names:
        if name not in _PROVIDERS:
            raise ConfigError(f"unknown provider {name!r}; choose one of {', '.join(_PROVIDERS)}")
        if _PROVIDERS[name] not in available:
            held = ", ".join(sorted(key for key, value in _PROVIDERS.items() if value in available))
            raise EngineError(
                f"this ONNX Runtime has no provider {name}, only {held}; on JetPack 7, "
                "`pip install onnxruntime-gpu` instead of onnxruntime provides it"
            )
    return tuple(_PROVIDERS[name] for name in names)


def _one_line(error: Exception) -> str:
    return one_line(error, 200)
