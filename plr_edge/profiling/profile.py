"""Profiles bundles on this machine: time, multiply-adds, memory and energy of each part.

Bundles are measured in turns, part by part, so that a disturbance of the machine affects all of
them alike. A quantity that the machine cannot measure is absent from the profile, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import ConfigError, StreamError
from plr_edge.meters import (
    EnergyReading,
    describe_machine,
    find_power_meters,
    measure_idle,
    read_temperatures_c,
)
from plr_edge.profiling.process_memory import imports_memory, role_memory
from plr_edge.profiling.timing import Job, measure
from plr_edge.stream import Frame, open_stream

SCHEMA = 2
N_CLASSES = 12  # classes that the classifier knows: the cost of an answer grows with them
_FRAMES = 64


def profile_bundles(
    bundles: Sequence[Bundle],
    config: LearningConfig | None = None,
    engines: EngineConfig | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    frames: Sequence[Frame] | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Measure each part of one or more bundles on this machine.

    Args:
        bundles: bundles to compare.
        config: sizes of a training step.
        engines: settings of the engines.
        runs: timed calls at batch 1. Larger batches and training steps get a fifth as many.
        warmup: untimed calls before.
        frames: frames to run on. Labels are ignored. The embedded ones by default.
        say: called with a line about each part that is measured.

    Returns:
        A profile that fits JSON. `read_step_costs` and `plr-edge plan` read costs from it.

    Raises:
        StreamError: `frames` is empty.
    """
    config, engines = config or LearningConfig(), engines or EngineConfig()
    meters, reasons = find_power_meters()
    if frames is None:
        frames = list(islice(open_stream("demo", limit_per_class=6), _FRAMES))
    if not len(frames):
        raise StreamError("there is no frame to measure on; give a stream with images")
    machine, before_c = describe_machine(), read_temperatures_c()
    idle = measure_idle(meters) if meters else {}
    entries = [_entry(b, name) for b, name in zip(bundles, _labels(bundles), strict=True)]
    pairs = zip(bundles, entries, strict=True)
    for group in _together([_jobs(b, e, config, engines, frames, runs) for b, e in pairs]):
        say(" ".join(str(group[0].row.get(key, "")) for key in ("part", "level", "batch")).strip())
        measure(group, warmup, meters, idle)
    after_c, after = read_temperatures_c(), describe_machine()
    say("memory")
    for bundle, entry in zip(bundles, entries, strict=True):
        entry["memory"] = role_memory(bundle, config, engines)
    return {
        "schema": SCHEMA,
        "machine": machine,
        "changed": {k: v for k, v in after.items() if machine.get(k) != v},
        "n_threads": engines.n_threads,
        "engine": engines.engine,
        "providers": list(engines.providers),
        "batch": config.new_per_step + config.rehearsed_per_step,
        "n_classes": N_CLASSES,
        "bundles": entries,
        "memory": imports_memory(),
        "energy_sources": [meter.name for meter in meters],
        "energy_absent": reasons if not meters else [],
        "idle": {name: _idle_row(reading) for name, reading in idle.items()},
        **({"temperatures_c": {"before": before_c, "after": after_c}} if before_c else {}),
    }


def read_profile(path: Path) -> dict[str, Any]:
    """Read what `plr-edge profile --json` wrote.

    Raises:
        ConfigError: the file cannot be read, or is not a profile.
    """
    try:
        profile = json.loads(Path(path).read_bytes())
        for entry in entries_of(profile):
            [float(step["p50_ms"]) for step in entry["steps"]]
            str(entry["frozen_sha256"])
    except OSError as error:
        raise ConfigError(f"cannot read costs from {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a profile ({error!r}); write one with `plr-edge profile --json {path}`"
        ) from None
    return {"machine": {}, "idle": {}, **profile}


def entries_of(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the bundles of a profile. A profile of schema 1 is itself the only one."""
    return list(profile.get("bundles", [profile]))


def read_step_costs(path: Path, bundle: Bundle) -> tuple[float, ...]:
    """Read the milliseconds of one training step at each level from a JSON profile.

    Raises:
        ConfigError: the file is not a profile, or is the profile of other bundles.
    """
    for entry in entries_of(read_profile(path)):
        if entry["frozen_sha256"] == bundle.frozen_sha256:
            return tuple(float(step["p50_ms"]) for step in entry["steps"])
    raise ConfigError(f"{path} is the profile of another bundle; profile {bundle.path} again")


def _labels(bundles: Sequence[Bundle]) -> list[str]:
    """Name bundles by their directories, with more of the path if two have the same name."""
    names = [bundle.path.name for bundle in bundles]
    paths = [str(b.path) if names.count(n) > 1 else n for b, n in zip(bundles, names, strict=True)]
    return [p if paths.count(p) == 1 else f"{p} ({i})" for i, p in enumerate(paths, 1)]


def _entry(bundle: Bundle, label: str) -> dict[str, Any]:
    manifest = bundle.manifest
    parity = manifest.get("parity", {})
    return {
        "label": label,
        "path": str(bundle.path),
        "bundle": bundle.name,
        "backbone": manifest["backbone"],
        "cut": manifest["cut"],
        "input_size": bundle.preprocessing.size,
        "precision": bundle.precision,
        "static_feature": bool(manifest.get("static_feature", False)),
        "frozen_sha256": bundle.frozen_sha256,
        "latent_shape": list(bundle.latent_shape),
        "latent_cosine": parity.get("latent_cosine"),
        "top1_agreement": parity.get("top1_agreement"),
        "engines": [],
        "steps": [],
    }


def _jobs(
    bundle: Bundle,
    entry: dict[str, Any],
    config: LearningConfig,
    engines: EngineConfig,
    frames: Sequence[Frame],
    runs: int,
) -> list[Job]:
    """Return the calls to measure. Their rows are already in `entry`."""
    from plr_edge.engines.choice import make_frozen_engine
    from plr_edge.runtime.session import Session

    # steps enter at the level being measured, and no cached feature expires; the memory of this
    # schedule holds whole maps, as that of a robot does
    fixed = replace(config, schedule="classifier", step_costs=None, max_age_steps=10**9)
    session = Session(bundle, None, fixed, engines)
    n = config.new_per_step + config.rehearsed_per_step
    batch = list(islice(cycle(frames), n))
    latents = _teach(session, batch)
    engine = make_frozen_engine(bundle, engines.engine, engines.providers, engines.n_threads)
    x = bundle.preprocessing([frame.image for frame in batch])
    macs = {"frozen": int(bundle.manifest["frozen_macs"]),
            "adaptive": sum(level.macs for level in bundle.levels[:-1])}  # fmt: skip
    few, perception = max(5, runs // 5), session.perception
    images = cycle([frame.image for frame in batch])
    one = cycle(batch)
    jobs = [
        Job({"part": "prepare", "batch": 1}, lambda: bundle.preprocessing([next(images)]), runs)
    ]
    for part, run, data in (("frozen", engine.run, x), ("adaptive", _features(session), latents)):
        for m in (1, n):
            row = {"part": part, "batch": m, "macs": macs[part] * m}
            call = lambda run=run, data=data[:m]: run(data)  # noqa: E731
            jobs.append(Job(row, call, runs if m == 1 else few, has_energy=m == 1))
    row = {"part": "frame", "batch": 1, "macs": sum(macs.values())}
    jobs.append(Job(row, lambda: perception.predict_many([next(one)]), runs))
    entry["engines"] = [job.row for job in jobs]
    steps = list(_step_jobs(bundle, session, few, n))
    entry["steps"] = [job.row for job in steps]
    return jobs + steps


def _features(session: Any) -> Callable[[np.ndarray], object]:
    return lambda latents: session.perception.features_of(latents)


def _teach(session: Any, frames: Sequence[Frame]) -> np.ndarray:
    """Teach classifier and learner a few classes. Returns the latents of the frames."""
    from plr_edge.replay.latent_memory import with_seq

    seen = session.perception.perceive(frames)
    labels = np.arange(len(frames)) % N_CLASSES
    learned = session.learned
    learned.classes.extend(f"class {i}" for i in range(min(N_CLASSES, len(frames))))
    records = with_seq(learned.holdout.codec.encode(seen.latents), np.arange(len(frames)))
    session.learner.learn_many(records, labels, seen.features)
    learned.classifier.learn_many(seen.taps, seen.features, labels)
    learned.classifier.solve()
    learned.classifier.rehearsed = session.learner.classifier()
    return np.asarray(seen.latents)


def _step_jobs(bundle: Bundle, session: Any, runs: int, n: int) -> Iterator[Job]:
    """Yield a training step for each level, on latents of the frames."""
    from plr_edge.export.split import saved_bytes
    from plr_edge.replay.schedule import Schedule

    learner = session.learner
    for i, level in enumerate(bundle.trained_levels(session.config.window)):
        shares = tuple(float(j == i) for j in range(len(bundle.levels)))
        alone = Schedule(name=level.name, shares=shares)

        def step(alone: Schedule = alone) -> None:
            learner.schedule = alone
            learner.step()

        blocks = learner.blocks[i:]
        row = {
            "level": level.name,
            "shape": list(level.shape),
            "macs": learner.step_macs[i] * n,
            "saved_bytes": n * (saved_bytes(blocks, level.shape) if len(blocks) else 0),
        }
        yield Job(row, step, runs)


def _together(jobs: Sequence[Sequence[Job]]) -> list[list[Job]]:
    """Group the jobs of several bundles by part, level and batch size."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for own in jobs:
        for job in own:
            key = (job.row.get("part"), job.row.get("level"), job.row.get("batch"))
            groups.setdefault(key, []).append(job)
    return list(groups.values())


def _idle_row(reading: EnergyReading) -> dict[str, Any]:
    row = {"w": reading.mean_w, "seconds": reading.seconds, "samples": reading.samples}
    return {key: value for key, value in row.items() if value is not None}
