"""Measures the memory of processes by starting them: imports alone, answering, training.

Only a fresh process shows what a role needs. One that did other things before does not.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import EngineError
from plr_edge.meters.process import process_memory

_IMPORTS = {
    "numpy and onnxruntime": "import numpy, onnxruntime",
    "predict (torch-free)": "from plr_edge.runtime import perception",
    "adapt (with torch)": "from plr_edge.runtime import session",
}
_LOOK_EVERY_S = 0.002
_FRAMES, _CLASSES = 16, 4
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
        with _child("-c", probe.format(imports=imports)) as child:
            output, _ = child.communicate(timeout=_TIMEOUT_S)
        if child.returncode == 0:
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
    engines = engines or EngineConfig()
    engines = replace(engines, allow_code=engines.allow_code or bundle.trusted)
    settings = json.dumps([asdict(config), asdict(engines)])
    rows = {}
    for role in ROLES:
        with _child(
            "-m", "plr_edge.profiling.process_memory", role, str(bundle.path), settings
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()  # libraries are loaded: some reserve gigabytes meanwhile
            data_bytes = _highest_data(child)
            output, errors = child.communicate(timeout=_TIMEOUT_S)
        if child.returncode != 0:
            reason = (errors.strip().splitlines() or [f"signal {-child.returncode}"])[-1]
            raise EngineError(f"a process that {role} with {bundle.path} failed ({reason[:200]})")
        rows[role] = json.loads(output.splitlines()[-1])
        if data_bytes:
            rows[role]["data_bytes"] = data_bytes
    return rows


def _child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _highest_data(child: subprocess.Popen[str]) -> int:
    """Return the peak of a process's data, sampled from outside until it ends."""
    highest, end = 0, time.monotonic() + _TIMEOUT_S
    while child.poll() is None and time.monotonic() < end:
        highest = max(highest, process_memory(child.pid, walk=False).get("data_bytes", 0))
        time.sleep(_LOOK_EVERY_S)
    if child.poll() is None:
        child.kill()
    return highest


def _answer(bundle: Bundle, config: LearningConfig, engines: EngineConfig) -> object:
    from plr_edge.runtime.perception import Perception
    from plr_edge.stream.base import Frame

    perception = Perception(bundle, engines=engines)
    size = bundle.preprocessing.size
    for i in range(_FRAMES):
        perception.predict_many([Frame(np.zeros((size, size, 3), np.uint8), None, i, "zeros", i)])
    return perception


def _train(bundle: Bundle, config: LearningConfig, engines: EngineConfig) -> object:
    """Do what the trainer process does: a step at each level, then offer a candidate."""
    from plr_edge.export.adaptive import adaptive_blocks
    from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory, with_seq
    from plr_edge.replay.learner import Learner
    from plr_edge.replay.schedule import Schedule
    from plr_edge.robot.protocol import named, pack

    codec, levels = bundle.codec(config.bits, config.pool), bundle.levels
    memory = LatentMemory(codec.record_bytes + SEQ_BYTES, config.memory_bytes, config.seed)
    alone = [tuple(float(i == j) for j in range(len(levels))) for i in range(len(levels))]
    learner = Learner(
        adaptive_blocks(bundle, allow_code=engines.allow_code), levels, memory, codec,
        Schedule(name="alone", shares=alone[0]), config, n_threads=engines.n_threads,
    )  # fmt: skip
    n = config.new_per_step + config.rehearsed_per_step
    latents = np.abs(np.random.default_rng(config.seed).standard_normal((n, *bundle.latent_shape)))
    records = with_seq(codec.encode(latents.astype(np.float32)), np.arange(n))
    learner.learn_many(records, np.arange(n) % _CLASSES)
    for i in range(len(memory), memory.capacity):  # until it is full
        memory.add(records[i % n], i % _CLASSES)
    for shares in alone:
        learner.schedule = Schedule(name="alone", shares=shares)
        learner.step()
    held, _ = memory.to_arrays()
    features = np.ones((len(memory), bundle.feature_width), np.float32)
    pack("candidate", {}, {**held, "features": features, **named(learner.weights(), "weights")})
    return learner


_LOADED_BY = {
    "answers": ("plr_edge.runtime.perception", "onnxruntime"),
    "trains": ("plr_edge.robot.trainer", "onnxruntime"),
}
ROLES: dict[str, Callable[[Bundle, LearningConfig, EngineConfig], object]] = {
    "answers": _answer,
    "trains": _train,
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
