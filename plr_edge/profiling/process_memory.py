"""Measures the memory of processes by starting them: imports alone, answering, training.

Only a fresh process shows what a role needs. One that did other things before does not.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.meters.process import process_memory
from plr_edge.robot.trainer_memory import child, in_child, train_once

_IMPORTS = {
    "numpy and onnxruntime": "import numpy, onnxruntime",
    "predict (torch-free)": "from plr_edge.runtime import perception",
    "adapt (with torch)": "from plr_edge.runtime import session",
}
_FRAMES = 16
_TIMEOUT_S = 300


def imports_memory() -> dict[str, Any]:
    """Measure the memory and processor time of imports. Imports that fail are absent."""
    probe = (
        "import json, time; t = time.process_time(); {imports}; cpu = time.process_time() - t\n"
        "from plr_edge.meters.process import process_memory\n"
        "print(json.dumps({{**process_memory(), 'import_cpu_s': cpu}}))"
    )
    rows: dict[str, Any] = {}
    for name, imports in _IMPORTS.items():
        with child("-c", probe.format(imports=imports)) as process:
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        if process.returncode == 0:
            rows[name] = json.loads(output.splitlines()[-1])
    return rows


def role_memory(
    bundle: Bundle, config: LearningConfig, engines: EngineConfig | None = None
) -> dict[str, Any]:
    """Measure a process that answers with a bundle, and one that trains it.

    Args:
        bundle: bundle to load.
        config: settings of learning.
        engines: settings of the engines.

    Returns:
        The result of `process_memory` for `answers` and for `trains`, with the largest
        `data_bytes` that was seen.

    Raises:
        EngineError: a process failed.
    """
    engines, rows = engines or EngineConfig(), {}
    for role in ROLES:
        output, data_bytes = in_child(__name__, (role,), bundle, config, engines)
        rows[role] = json.loads(output.splitlines()[-1])
        if data_bytes:
            rows[role]["data_bytes"] = data_bytes
    return rows


def _answer(bundle: Bundle, config: LearningConfig, engines: EngineConfig) -> object:
    from plr_edge.runtime.perception import Perception
    from plr_edge.stream.base import Frame

    perception = Perception(bundle, engines=engines)
    black = np.zeros((*bundle.preprocessing.input_shape[-2:], 3), np.uint8)
    for i in range(_FRAMES):
        perception.predict_many([Frame(black, None, i, "zeros", i)])
    return perception


_LOADED_BY = {
    "answers": ("plr_edge.runtime.perception", "onnxruntime"),
    "trains": ("plr_edge.robot.trainer", "onnxruntime"),
}
ROLES: dict[str, Callable[[Bundle, LearningConfig, EngineConfig], object]] = {
    "answers": _answer,
    "trains": train_once,
}


def main(role: str, path: str, config: str) -> None:
    """Play a role, and print the memory it took."""
    learning, engines = json.loads(config)
    engines["providers"] = tuple(engines["providers"])
    for module in _LOADED_BY[role]:
        importlib.import_module(module)
    print("loaded", flush=True)
    kept = ROLES[role](open_bundle(path), LearningConfig(**learning), EngineConfig(**engines))
    memory = process_memory()
    del kept
    print(json.dumps(memory))


if __name__ == "__main__":
    main(*sys.argv[1:4])
