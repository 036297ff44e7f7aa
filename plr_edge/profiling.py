"""Profile of a bundle on this machine: milliseconds, multiply-adds, bytes, joules of every part.

What the machine cannot measure is absent from the result, and a note says why.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle import Bundle
from plr_edge.config import AdaptConfig
from plr_edge.errors import ConfigError
from plr_edge.meters import EnergyReading, find_power_meters
from plr_edge.meters.board import describe_machine
from plr_edge.meters.process import process_memory
from plr_edge.meters.thermal import read_temperatures_c

SCHEMA = 1
_ENERGY_S = 2.0  # shortest window for energy; power counters tick in tens of milliseconds
_CHILDREN = {
    "numpy and onnxruntime": "import numpy, onnxruntime",
    "predict (torch-free)": "from plr_edge.runtime import perception",
    "adapt (with torch)": "from plr_edge.runtime import session",
}


def profile_bundle(
    bundle: Bundle, config: AdaptConfig | None = None, *, runs: int = 50, warmup: int = 5
) -> dict[str, Any]:
    """Measure every part of a bundle here.

    Args:
        bundle: what to measure.
        config: batch sizes and threads.
        runs: timed calls of each engine; training steps take a fifth of it.
        warmup: calls before that.

    Returns:
        Facts that fit JSON; `read_step_costs` takes its costs from them.
    """
    config = config or AdaptConfig()
    meters, reasons = find_power_meters()
    before_c = read_temperatures_c()
    batch = config.new_per_step + config.rehearsed_per_step
    energy_of = _energy_reader(meters)
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "frozen_sha256": bundle.frozen_sha256,
        "bundle": bundle.name,
        "machine": describe_machine(),
        "n_threads": config.n_threads,
        "batch": batch,
        "engines": _engines(bundle, config, batch, runs, warmup, energy_of),
        "steps": _steps(bundle, config, max(3, runs // 5), energy_of),
        "memory": _memory(),
        "energy_sources": [meter.name for meter in meters],
        "energy_absent": reasons if not meters else [],
    }
    if before_c:
        facts["temperatures_c"] = {"before": before_c, "after": read_temperatures_c()}
    return facts


def measure_ms(
    call: Callable[[], object],
    runs: int = 50,
    warmup: int = 5,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, float]:
    """Time a call; returns p50_ms, p90_ms, p99_ms and the number of runs."""
    for _ in range(warmup):
        call()
    times = []
    for _ in range(runs):
        start = clock_ns()
        call()
        times.append((clock_ns() - start) / 1e6)
    p50, p90, p99 = (float(x) for x in np.percentile(times, (50, 90, 99)))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "runs": runs}


def read_step_costs(path: Path, bundle: Bundle) -> tuple[float, ...]:
    """Return the milliseconds of one training step at each level, from a profile written as JSON.

    Raises:
        ConfigError: the file is no profile, or one of another bundle.
    """
    try:
        facts = json.loads(Path(path).read_bytes())
        costs = tuple(float(step["p50_ms"]) for step in facts["steps"])
        digest = facts["frozen_sha256"]
    except OSError as error:
        raise ConfigError(f"cannot read costs from {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no profile ({error!r}); write one with `plr-edge profile --json {path}`"
        ) from None
    if digest != bundle.frozen_sha256:
        raise ConfigError(f"{path} is the profile of another bundle; profile {bundle.path} again")
    return costs


def _engines(
    bundle: Bundle,
    config: AdaptConfig,
    batch: int,
    runs: int,
    warmup: int,
    energy_of: Callable[[Callable[[], object]], dict[str, Any]],
) -> list[dict[str, Any]]:
    from plr_edge.engines.onnx_engine import OnnxEngine

    rng = np.random.default_rng(config.seed)
    size = bundle.preprocessing.size
    parts = {
        "frozen": ("frozen.onnx", (3, size, size), int(bundle.manifest["frozen_macs"])),
        "adaptive": (
            "adaptive.onnx",
            bundle.latent_shape,
            sum(level.macs for level in bundle.levels[:-1]),
        ),
    }
    rows = []
    for name, (file, shape, macs) in parts.items():
        engine = OnnxEngine(bundle.read(file), config.n_threads)
        for n in (1, batch):
            x = rng.standard_normal((n, *shape)).astype(np.float32)
            few = runs if n == 1 else max(3, runs // 5)
            timing = measure_ms(lambda e=engine, x=x: e.run(x), few, min(warmup, few))  # type: ignore[misc]
            row = {"part": name, "batch": n, "macs": macs * n, **timing}
            if n == 1:
                row.update(energy_of(lambda e=engine, x=x: e.run(x)))  # type: ignore[misc]
            rows.append(row)
    return rows


def _steps(
    bundle: Bundle,
    config: AdaptConfig,
    runs: int,
    energy_of: Callable[[Callable[[], object]], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Time one training step entered at each level, on records of random latents."""
    from dataclasses import replace

    from plr_edge.export.split import saved_bytes
    from plr_edge.runtime.canary import with_seq
    from plr_edge.runtime.session import Session

    rng = np.random.default_rng(config.seed)
    n = config.new_per_step + config.rehearsed_per_step
    rows = []
    for i, level in enumerate(bundle.levels):
        shares = ",".join("1" if j == i else "0" for j in range(len(bundle.levels)))
        alone = replace(config, schedule=shares, max_age_steps=10**9, step_costs=None)
        session = Session(bundle, None, alone)
        latents = np.abs(rng.standard_normal((n, *bundle.latent_shape))).astype(np.float32)
        records = with_seq(session.codec.encode(latents), np.arange(n))
        session.learner.learn_many(records, np.arange(n) % 4)
        timing = measure_ms(session.learner.step, runs, 2)
        blocks = session.learner.blocks[i:]
        rows.append(
            {
                "level": level.name,
                "shape": list(level.shape),
                "macs": session.learner.step_macs[i] * n,
                "saved_bytes": n * (saved_bytes(blocks, level.shape) if len(blocks) else 0),
                **timing,
                **energy_of(session.learner.step),
            }
        )
    return rows


def _energy_reader(meters: list[Any]) -> Callable[[Callable[[], object]], dict[str, Any]]:
    def read(call: Callable[[], object]) -> dict[str, Any]:
        if not meters:
            return {}
        for meter in meters:
            meter.start()
        n, start = 0, time.monotonic()
        while time.monotonic() - start < _ENERGY_S:
            call()
            n += 1
        readings: list[EnergyReading] = [meter.stop() for meter in meters]
        return {
            "energy_mj": {
                r.source: r.total_mj / n for r in readings if r.total_mj is not None and n
            }
        }

    return read


def _memory() -> dict[str, Any]:
    """Measure what a fresh process needs, by starting one for each set of imports."""
    probe = (
        "import json, time; t = time.process_time(); {imports}; cpu = time.process_time() - t\n"
        "from plr_edge.meters.process import process_memory\n"
        "print(json.dumps({{**process_memory(), 'import_cpu_s': cpu}}))"
    )
    rows: dict[str, Any] = {}
    for name, imports in _CHILDREN.items():
        done = subprocess.run(
            [sys.executable, "-c", probe.format(imports=imports)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode == 0:
            rows[name] = json.loads(done.stdout)
    rows["this process"] = process_memory()
    return rows
