"""How much memory the trainer of a bundle needs: a child process does what the trainer does.

Only a fresh process shows it. The figure is its data segment, which `--memory-limit` limits.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from dataclasses import asdict, replace
from math import ceil

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import ConfigError, EngineError
from plr_edge.meters.process import process_memory

_log = logging.getLogger(__name__)
MEMORY_AIM = 0.95  # share of the limit to plan for: beyond the limit the trainer is killed
_LOOK_EVERY_S = 0.002
_TIMEOUT_S = 300
_CLASSES = 4


def check_memory_limit(
    bundle: Bundle, config: LearningConfig, engines: EngineConfig, limit_bytes: int
) -> None:
    """Refuse a limit in which the trainer of a bundle cannot live. It takes some seconds.

    Args:
        bundle: what is trained.
        config: how it is trained.
        engines: what the networks run on.
        limit_bytes: limit of the trainer's data segment.

    Raises:
        ConfigError: the limit is too low.
        EngineError: the trainer fails without a limit, too.
    """
    _log.info("measuring how much memory the trainer needs")
    _, needed = in_child("plr_edge.robot.trainer_memory", (), bundle, config, engines)
    if needed > limit_bytes:
        raise ConfigError(
            f"a memory limit of {limit_bytes / 1e6:g} MB is too low: the trainer of {bundle.path} "
            f"needs {ceil(needed / 1e6)} MB; give at least --memory-limit "
            f"{ceil(needed / MEMORY_AIM / 1e7) * 10}MB, or a smaller --latent-memory"
        )


def in_child(
    module: str,
    arguments: tuple[str, ...],
    bundle: Bundle,
    config: LearningConfig,
    engines: EngineConfig,
) -> tuple[str, int]:
    """Run a module as a process that prints a line once its libraries are loaded.

    Args:
        module: name of the module.
        arguments: its first arguments. The path of the bundle and the settings follow.
        bundle: bundle to load.
        config: settings of learning.
        engines: settings of the engines.

    Returns:
        output: what it printed after that line.
        data_bytes: peak of its data segment from then on, 0 if it cannot be read.

    Raises:
        EngineError: the process failed.
    """
    engines = replace(engines, allow_code=engines.allow_code or bundle.trusted)
    settings = json.dumps([asdict(config), asdict(engines)])
    with child("-m", module, *arguments, str(bundle.path), settings) as process:
        assert process.stdout is not None
        process.stdout.readline()  # libraries are loaded: some reserve gigabytes meanwhile
        data_bytes = _highest_data(process)
        output, errors = process.communicate(timeout=_TIMEOUT_S)
    if process.returncode != 0:
        reason = (errors.strip().splitlines() or [f"signal {-process.returncode}"])[-1]
        role = arguments[0] if arguments else "trains"
        raise EngineError(f"a process that {role} with {bundle.path} failed ({reason[:200]})")
    return output, data_bytes


def child(*arguments: str) -> subprocess.Popen[str]:
    """Start a Python process whose output is read."""
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _highest_data(process: subprocess.Popen[str]) -> int:
    """Return the peak of a process's data, sampled from outside until it ends."""
    highest, end = 0, time.monotonic() + _TIMEOUT_S
    while process.poll() is None and time.monotonic() < end:
        highest = max(highest, process_memory(process.pid, walk=False).get("data_bytes", 0))
        time.sleep(_LOOK_EVERY_S)
    if process.poll() is None:
        process.kill()
    return highest


def train_once(bundle: Bundle, config: LearningConfig, engines: EngineConfig) -> object:
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


def main(path: str, settings: str) -> None:
    """Train once, with the libraries of the trainer loaded before."""
    import plr_edge.robot.trainer  # noqa: F401  (what the trainer loads before it is limited)

    learning, engines = json.loads(settings)
    engines["providers"] = tuple(engines["providers"])
    print("loaded", flush=True)
    kept = train_once(open_bundle(path), LearningConfig(**learning), EngineConfig(**engines))
    time.sleep(10 * _LOOK_EVERY_S)
    del kept


if __name__ == "__main__":
    main(*sys.argv[1:3])
