"""How much memory the trainer of a bundle needs: a child process does what the trainer does.

Only a fresh process on the machine itself shows it. The figure is its data segment, which
`--memory-limit` limits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
from platformdirs import user_cache_path

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import ConfigError, EngineError
from plr_edge.files import replace_file
from plr_edge.meters.process import process_memory

_log = logging.getLogger(__name__)
MEMORY_AIM = 0.95  # share of the limit to plan for: beyond the limit the trainer is killed
_LOOK_EVERY_S = 0.002
_TIMEOUT_S = 300
_CLASSES, _CHUNK = 4, 32  # of the labels to train on, and of one message
DIVISORS = (1, 2, 4, 8)  # of the batches, largest batches first


@dataclass(frozen=True)
class TrainerNeeds:
    """How much memory the trainer of a bundle takes at one size of its batches.

    Attributes:
        divisor: the batches of the settings are divided by it, and their feature cache by its
            square.
        by_level: peak of its data segment in bytes, if no step enters at an earlier level.
    """

    divisor: int
    by_level: tuple[int, ...]

    def allowed(self, limit_bytes: int) -> list[bool]:
        """Return for each level whether a limit lets steps enter there."""
        return [needed <= MEMORY_AIM * limit_bytes for needed in self.by_level]


def fitting_needs(
    bundle: Bundle, config: LearningConfig, engines: EngineConfig, limit_bytes: int
) -> TrainerNeeds:
    """Find the largest batches with which the trainer lives within a limit.

    Each size is measured on this machine, which takes some seconds, and is remembered in the user's
    cache.

    Args:
        bundle: what is trained.
        config: how it is trained.
        engines: what the networks run on, with the threads of the trainer.
        limit_bytes: limit of the trainer's data segment.

    Raises:
        ConfigError: the limit is too low even for the smallest batches.
        EngineError: the trainer fails without a limit, too.
    """
    for divisor in DIVISORS:
        needs = needs_of(bundle, config, engines, divisor)
        if needs.by_level[-1] <= MEMORY_AIM * limit_bytes:
            break
    else:
        needed = needs.by_level[-1]
        raise ConfigError(
            f"a memory limit of {limit_bytes / 1e6:g} MB is too low: the trainer of {bundle.path} "
            f"needs {ceil(needed / 1e6)} MB with its smallest batches; give at least "
            f"--memory-limit {ceil(needed / MEMORY_AIM / 1e7) * 10}MB, or a smaller --latent-memory"
        )
    if needs.divisor > 1:
        small = config.with_smaller_batches(needs.divisor)
        _log.warning(
            "a memory limit of %g MB is near what the trainer needs: it trains on batches of %d "
            "samples instead of %d, with a feature cache of %g MB instead of %g MB",
            limit_bytes / 1e6, small.batch, config.batch, small.cache_bytes / 1e6,
            config.cache_bytes / 1e6,
        )  # fmt: skip
    return needs


def needs_of(
    bundle: Bundle, config: LearningConfig, engines: EngineConfig, divisor: int = 1
) -> TrainerNeeds:
    """Return what the trainer of a bundle needs, from the user's cache if it was measured before.

    Args:
        bundle: what is trained.
        config: how it is trained.
        engines: what the networks run on, with the threads of the trainer.
        divisor: see `TrainerNeeds`.

    Raises:
        EngineError: the trainer fails.
    """
    small = config.with_smaller_batches(divisor)
    file = _remembered(bundle, small, engines)
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(file.read_text())
        return TrainerNeeds(divisor, tuple(map(int, kept["by_level"])))
    _log.info("measuring how much memory the trainer needs, once for this bundle and machine")
    output, outside = in_child("plr_edge.robot.trainer_memory", (), bundle, small, engines)
    by_level = [int(n) for n in json.loads(output.splitlines()[-1])]
    by_level[0] = max(by_level[0], outside)  # seen from outside, too
    needs = TrainerNeeds(divisor, tuple(by_level))
    with suppress(OSError):  # a cache that cannot be written costs time at the next start
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps(asdict(needs)).encode())
    return needs


def _remembered(bundle: Bundle, config: LearningConfig, engines: EngineConfig) -> Path:
    """Return the file that holds what was measured on this machine with these settings."""
    manifest = json.dumps(bundle.manifest, sort_keys=True, default=str)
    machine = [platform.machine(), platform.processor(), platform.python_version()]
    settings = [config.memory_bytes, config.bits, config.pool, config.cache_bytes, config.batch]
    versions = [version(name) for name in ("plr-edge", "torch", "numpy")]
    key = json.dumps([manifest, machine, settings, engines.n_threads, versions])
    name = hashlib.sha256(key.encode()).hexdigest()
    return user_cache_path("plr-edge") / "trainer-memory" / f"{name}.json"


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
    """Do what the trainer process does; see `_train`."""
    return _train(bundle, config, engines)[0]


def _train(
    bundle: Bundle, config: LearningConfig, engines: EngineConfig
) -> tuple[object, list[int]]:
    """Let a trainer fill its memory, step at each level, and offer a candidate.

    Returns:
        trainer: what took the memory.
        by_level: peak of the data segment, if no step enters at an earlier level.
    """
    from plr_edge.replay.latent_memory import SEQ_BYTES, with_seq
    from plr_edge.robot.protocol import pack
    from plr_edge.robot.trainer import Trainer

    facts = {
        "bundle": str(bundle.path), "config": asdict(config), "memory": None, "upto": 0,
        "n_threads": engines.n_threads,
    }  # fmt: skip
    codec, rng = bundle.codec(config.bits, config.pool), np.random.default_rng(config.seed)
    peaks = _Peaks()
    trainer = Trainer(cast(Any, _Nowhere()), facts, {})
    n_slots = max(1, config.memory_bytes // (codec.record_bytes + SEQ_BYTES))
    for at in range(0, n_slots, _CHUNK):
        latents = np.abs(rng.standard_normal((_CHUNK, *bundle.latent_shape), np.float32))
        records = with_seq(codec.encode(latents), np.arange(at, at + _CHUNK))
        indices = np.arange(_CHUNK) % _CLASSES
        arrays = {"records": records, "indices": indices, "features": np.zeros(0, np.float32)}
        trainer._take(pack("learn", {"upto": at + _CHUNK}, arrays))
    trainer._offer()
    before, by_level = peaks.take(), list[int]()
    for level in reversed(range(len(bundle.levels))):
        for with_newest in (True, False):
            trainer._learner.step(level=level, with_newest=with_newest)
        trainer._offer()
        before = max(before, peaks.take())
        by_level.insert(0, before)
    return trainer, by_level


class _Peaks:
    """The peak of this process's data segment, sampled by a thread."""

    def __init__(self) -> None:
        self._peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, process_memory(walk=False).get("data_bytes", 0))
            time.sleep(_LOOK_EVERY_S)

    def take(self) -> int:
        """Return the peak since the last call."""
        time.sleep(5 * _LOOK_EVERY_S)
        peak, self._peak = self._peak, 0
        return peak


class _Nowhere:
    """A connection whose messages nobody reads."""

    def send_bytes(self, message: bytes) -> None:
        """Drop a message."""


def main(path: str, settings: str) -> None:
    """Train once, with the libraries of the trainer loaded before."""
    import plr_edge.robot.trainer  # noqa: F401  (what the trainer loads before it is limited)

    learning, engines = json.loads(settings)
    engines["providers"] = tuple(engines["providers"])
    print("loaded", flush=True)
    kept, by_level = _train(open_bundle(path), LearningConfig(**learning), EngineConfig(**engines))
    time.sleep(10 * _LOOK_EVERY_S)
    del kept
    print(json.dumps(by_level))


if __name__ == "__main__":
    main(*sys.argv[1:3])
