"""Traces a short run as a Chrome trace, for Perfetto (ui.perfetto.dev) and chrome://tracing.

Spans show where the time of each frame goes. Counters are sampled meanwhile and show the load of
the machine. Format: "Trace Event Format" of Chromium, with phases X (complete), C (counter) and
M (metadata), and times in microseconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import StreamError
from plr_edge.files import replace_file
from plr_edge.meters import (
    PowerMeter,
    available_bytes,
    find_power_meters,
    process_memory,
    read_gpu,
    read_temperatures_c,
)
from plr_edge.stream.base import Frame

TRACKS = ("perception", "training")
NAMES = ("capture", "prepare", "frozen", "adaptive", "answer", "learn", "train")
SAMPLE_EVERY_S = 0.05
_MACHINE_PID = 1  # process id of the counters' track; the runs follow
_NAMED_CLASSES = 12


@dataclass(frozen=True)
class Span:
    """A stretch of time spent on one thing.

    Attributes:
        name: one of `NAMES`.
        track: one of `TRACKS`.
        start_ns: start, by the monotonic clock.
        end_ns: end, by the monotonic clock.
        args: details to show. They fit JSON.
    """

    name: str
    track: str
    start_ns: int
    end_ns: int
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Values of one quantity at one instant, by rail, zone or type."""

    name: str
    at_ns: int
    values: dict[str, float]


@dataclass(frozen=True)
class Run:
    """Spans and samples of a bundle that answered and learned a few frames."""

    name: str
    spans: list[Span]
    samples: list[Sample]


class Sampler:
    """Samples power, temperature, memory and GPU load while something else runs."""

    def __init__(
        self,
        meters: Sequence[PowerMeter] | None = None,
        sysfs: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        *,
        every_s: float = SAMPLE_EVERY_S,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Find the sensors that can be read. The others are absent from the samples.

        Args:
            meters: meters of power, not running. None uses those of this machine.
            sysfs: root of /sys.
            proc: root of /proc.
            every_s: time between samples. Below 20 ms power chips return noise.
            clock_ns: the clock, which tests replace.
        """
        self.samples: list[Sample] = []
        self._meters = list(find_power_meters(sysfs)[0] if meters is None else meters)
        for meter in self._meters:
            meter.interval_s = None  # `sample` reads it
        self._sysfs, self._proc, self._every_s, self._clock_ns = sysfs, proc, every_s, clock_ns
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)

    def sample(self) -> None:
        """Read everything once. Power is the mean since the previous sample."""
        now_ns, watts = self._clock_ns(), dict[str, float]()
        for meter in self._meters:
            reading = meter.stop()
            meter.start()
            if reading.seconds > 0:
                watts |= {f"{rail} W": mj / 1e3 / reading.seconds
                          for rail, mj in reading.rails_mj.items()}  # fmt: skip
        memory = process_memory(proc=self._proc, walk=False)
        left = available_bytes(self._proc)
        zones = {f"{zone} C": c for zone, c in read_temperatures_c(self._sysfs).items()}
        gpu = read_gpu(self._sysfs)
        load = None if gpu is None else gpu.load_share
        for name, values in (
            ("power", watts),
            ("temperature", zones),
            ("memory", {"process MB": memory["rss_bytes"] / 1e6} if "rss_bytes" in memory else {}),
            ("memory left", {} if left is None else {"MB": left / 1e6}),
            ("gpu", {} if load is None else {"load %": 100 * load}),
        ):
            if values:
                self.samples.append(Sample(name, now_ns, values))

    def _loop(self) -> None:
        while not self._ended.wait(self._every_s):
            self.sample()

    def __enter__(self) -> Sampler:
        for meter in self._meters:
            meter.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.sample()
        for meter in self._meters:
            meter.stop()


def trace_run(
    bundle: Bundle,
    frames: Iterable[Frame],
    config: LearningConfig | None = None,
    engines: EngineConfig | None = None,
    *,
    n_frames: int = 96,
    every_s: float = SAMPLE_EVERY_S,
) -> Run:
    """Answer and learn a few frames, one by one, as `plr-edge adapt` does with a live stream.

    Args:
        bundle: bundle that answers and learns.
        frames: frames of a stream. Those without a label are taught as one of a few classes.
        config: settings of learning.
        engines: settings of the engines.
        n_frames: maximum number of frames.
        every_s: time between samples of the counters.

    Raises:
        StreamError: there is no frame.
    """
    from plr_edge.runtime.session import Session

    config = config or LearningConfig()
    config = replace(config, schedule=config.schedule_name)  # `auto` trains at the end only
    session = Session(bundle, None, config, engines)
    spans: list[Span] = []
    with Sampler(every_s=every_s) as sampler:
        source = islice(iter(frames), n_frames)
        while True:
            start_ns = time.monotonic_ns()
            frame = next(source, None)
            if frame is None:
                break
            spans.append(Span("capture", "perception", start_ns, time.monotonic_ns()))
            spans += _observe(session, frame)
    if not spans:
        raise StreamError("the stream has no frame to trace")
    name = f"{bundle.path.name}: {bundle.name}, {bundle.precision}"
    return Run(name, spans, sampler.samples)


def _observe(session: Any, frame: Frame) -> list[Span]:
    """Answer and learn one frame. The spans come from the session's own clocks."""
    perception, cost = session.perception, session.learner.features.cost
    label = frame.label or f"class {frame.index % _NAMED_CLASSES}"
    frame = replace(frame, label=label)
    clocks = ("prepare_s", "frozen_s", "adaptive_s")
    before = [getattr(perception, clock) for clock in clocks]
    at_ns = time.monotonic_ns()
    features = perception.perceive([frame])
    spans = []
    for clock, earlier in zip(clocks, before, strict=True):
        end_ns = at_ns + round((getattr(perception, clock) - earlier) * 1e9)
        spans.append(Span(clock.removesuffix("_s"), "perception", at_ns, end_ns))
        at_ns = end_ns
    learned_s, steps, macs = session.learn_s, list(cost.steps_per_level), cost.macs
    at_ns = time.monotonic_ns()
    (prediction,) = session.observe_features([frame], features)
    end_ns = time.monotonic_ns()
    split_ns = max(at_ns, end_ns - round((session.learn_s - learned_s) * 1e9))
    spans.append(Span("answer", "perception", at_ns, split_ns, {"class": prediction.label}))
    names = [level.name for level in session.bundle.levels]
    entered = {n: new - old for n, new, old in zip(names, cost.steps_per_level, steps, strict=True)}
    args = {"steps": {n: m for n, m in entered.items() if m}, "macs": cost.macs - macs}
    name = "train" if args["steps"] else "learn"  # without a step: ridge, means, latent memory
    return [*spans, Span(name, "training", split_ns, end_ns, args)]


def to_events(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the trace events of runs, in the order of time."""
    zero_ns = min(span.start_ns for run in runs for span in run.spans)
    zero_ns = min([zero_ns, *(sample.at_ns for run in runs for sample in run.samples)])
    names = [_name("process_name", _MACHINE_PID, 0, "machine")]
    timed: list[dict[str, Any]] = []
    for pid, run in enumerate(runs, _MACHINE_PID + 1):
        names.append(_name("process_name", pid, 0, run.name))
        names += [_name("thread_name", pid, tid, track) for tid, track in enumerate(TRACKS, 1)]
        for span in run.spans:
            timed.append({
                "name": span.name, "cat": span.track, "ph": "X", "pid": pid,
                "tid": TRACKS.index(span.track) + 1, "ts": (span.start_ns - zero_ns) / 1e3,
                "dur": (span.end_ns - span.start_ns) / 1e3, "args": span.args,
            })  # fmt: skip
        timed += [
            {"name": sample.name, "ph": "C", "pid": _MACHINE_PID, "tid": 0,
             "ts": (sample.at_ns - zero_ns) / 1e3, "args": sample.values}
            for sample in run.samples
        ]  # fmt: skip
    return [*names, *sorted(timed, key=lambda event: float(event["ts"]))]


def write_trace(path: Path, runs: Sequence[Run], machine: dict[str, Any]) -> None:
    """Write a trace file.

    Args:
        path: file to write.
        runs: the runs.
        machine: description of the machine, which Perfetto shows beside the trace.

    Raises:
        ConfigError: the file cannot be written.
    """
    trace = {"traceEvents": to_events(runs), "displayTimeUnit": "ms", "otherData": machine}
    replace_file(path, json.dumps(trace).encode())


def _name(target: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": target, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}
