"""A robot as Prometheus metrics. Absent values are omitted. No class, path or token appears."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from plr_edge.robot.robot import Robot
from plr_edge.robot.status import BOUNDS_S, STATES

Number = float | int
CONTENT_TYPE = "text/plain; version=0.0.4"  # the text format that `generate_latest` writes


class HttpCounts:
    """What the HTTP interface counts. Counters since the start, which never fall.

    Attributes:
        requests: requests by route and status.
        rejected: requests whose token is missing or wrong.
    """

    def __init__(self, rejected: Counter[str] | None = None) -> None:
        """Start at zero."""
        self.requests: Counter[tuple[str, int]] = Counter()
        self.rejected: Counter[str] = Counter() if rejected is None else rejected


def metrics_text(robot: Robot, http: HttpCounts | None = None) -> str:
    """Return the exposition in text format 0.0.4; safe to call from any thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RobotCollector(robot, http))
    return generate_latest(registry).decode()


class RobotCollector(Collector):
    """Collects the metrics of a robot whenever Prometheus scrapes it."""

    def __init__(self, robot: Robot, http: HttpCounts | None = None) -> None:
        """Collect from `robot`, and from what counts its requests."""
        self._robot, self._http = robot, http

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a sample."""
        for family in (
            *self._state(),
            *self._frames(),
            *self._learning(),
            *self._training(),
            *self._board(),
            *self._storage(),
            *self._requests(),
        ):
            if family.samples:
                yield family

    def _state(self) -> Iterator[Metric]:
        robot = self._robot
        build = GaugeMetricFamily(
            "plr_edge_build_info", "Versions and engine in use.", labels=list(build_labels(robot))
        )
        build.add_metric(list(build_labels(robot).values()), 1)
        yield build
        yield _gauges(
            "state",
            "1 for the current state, 0 for the others.",
            "state",
            {state: int(state == robot.state) for state in STATES},
        )
        yield _gauge(
            "frames_per_second", "Frames answered per second.", robot.governor_loop.frames_per_s
        )
        yield _gauge(
            "frame_age_seconds",
            "Age of the newest frame, absent before the first.",
            robot.feeder.sight.age_s(time.monotonic()),
        )

    def _frames(self) -> Iterator[Metric]:
        robot, stats = self._robot, self._robot.stats
        frames = CounterMetricFamily(
            "plr_edge_frames", "Frames by kind of source and outcome.", labels=["source", "outcome"]
        )
        for key, n in sorted(stats.by.copy().items()):
            frames.add_metric(key, n)
        yield frames
        yield HistogramMetricFamily(
            "plr_edge_inference_seconds",
            "Time from image to answer.",
            buckets=_cumulative(stats.in_bounds),
            sum_value=stats.latency_sum_s,
        )
        yield _counter(
            "frames_late",
            "Answers that came after the deadline.",
            stats.n_late if stats.deadline_ms is not None else None,
        )
        yield _gauge(
            "unknown_ratio", "Share of unknown frames in the last hour.", robot.drift.unknown_ratio
        )
        yield _gauge(
            "unknown_drift_per_hour",
            "Change of the unknown share per hour.",
            robot.drift.unknown_per_hour,
        )
        yield _gauge(
            "confidence_drift_per_hour",
            "Change of the mean confidence per hour.",
            robot.drift.confidence_per_hour,
        )

    def _learning(self) -> Iterator[Metric]:
        model, learned = self._robot.model, self._robot.model.learned
        yield _gauge("classes", "Known classes.", len(learned.classes))
        yield _gauge("version", "Version of the model that answers.", learned.version)
        yield _counter("labels_learned", "Labels learned since the start.", model.n_learned)
        yield _counter(
            "labels_quarantined", "Labels quarantined since the start.", model.n_set_aside
        )
        yield _gauges(
            "labels",
            "Labels of the state; undo and forget lower it.",
            "status",
            {"learned": model.counts.n_learned, "quarantined": model.counts.n_quarantined},
        )
        yield _counter(
            "generations_refused", "Candidates that failed their check.", model.n_dropped
        )

    def _training(self) -> Iterator[Metric]:
        trainer, decision = self._robot.model.trainer, self._robot.governor_loop.decision
        yield _counters(
            "train_steps", "Training steps by level.", "level", _by_level(trainer.n_steps)
        )
        seconds = SummaryMetricFamily(
            "plr_edge_train_step_seconds",
            "Processor time of training steps by level.",
            labels=["level"],
        )
        for level, (n, total_s) in enumerate(zip(trainer.n_steps, trainer.steps_s, strict=True), 1):
            seconds.add_metric([str(level)], n, total_s)
        yield seconds
        yield _gauge("trainer_up", "1 while the trainer runs.", int(trainer.process.alive))
        yield _counter(
            "trainer_deaths", "Times the trainer ended unexpectedly.", trainer.process.n_deaths
        )
        yield _gauge(
            "governor_steps_per_second",
            "Training steps that the governor allows.",
            decision.steps_per_s if decision else None,
        )
        yield _gauges(
            "governor_share",
            "Share of the training steps by level.",
            "level",
            _by_level(decision.shares if decision else ()),
        )

    def _board(self) -> Iterator[Metric]:
        sensors, report = self._robot.sensors, self._robot.model.trainer.report
        yield _counters(
            "energy_joules",
            "Energy by rail; `total` is the whole board, not a further rail.",
            "rail",
            sensors.rails_j,
        )
        yield _gauges(
            "power_watts",
            "Mean power of the last second by rail; `total` as above.",
            "rail",
            sensors.now.rails_w,
        )
        yield _gauges(
            "temperature_celsius", "Temperature by thermal zone.", "zone", sensors.now.temps_c
        )
        memory = {**sensors.now.memory_bytes, "trainer_rss": report.get("rss_bytes")}
        yield _gauges(
            "memory_bytes", "Memory of perception by kind, and of the trainer.", "kind", memory
        )

    def _storage(self) -> Iterator[Metric]:
        loop, report = self._robot.governor_loop, self._robot.model.trainer.report
        yield _gauge("replay_items", "Latents in the latent memory.", report.get("latents"))
        yield _gauge("replay_bytes", "Size of the latent memory.", report.get("latents_bytes"))
        yield _gauge("state_bytes", "Size of the state on disk.", loop.state_bytes)
        yield _gauge(
            "state_written_bytes",
            "Bytes written to disk in the last 24 hours.",
            loop.written_bytes,
        )

    def _requests(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "process_start_time_seconds", "Unix time at which the robot started.",
            value=self._robot.began_ns / 1e9,
        )  # fmt: skip
        if self._http is None:
            return
        requests = CounterMetricFamily(
            "plr_edge_http_requests", "Requests by route and status.", labels=["route", "code"]
        )
        for (route, code), n in sorted(self._http.requests.copy().items()):
            requests.add_metric([route, str(code)], n)
        yield requests
        rejected = {"wrong": 0, "missing": 0, **self._http.rejected}
        yield _counters("rejected_tokens", "Requests refused by their token.", "reason", rejected)


def build_labels(robot: Robot) -> dict[str, str]:
    """Return the labels of `plr_edge_build_info`."""
    bundle = robot.model.bundle
    return {
        "version": version("plr-edge"),
        "python": platform.python_version(),
        "backbone": str(bundle.manifest["backbone"]),
        "precision": bundle.precision,
        "engine": robot.model.engines.engine,
    }


def _gauge(name: str, text: str, value: Number | None) -> Metric:
    family = GaugeMetricFamily(f"plr_edge_{name}", text)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: Number | None) -> Metric:
    family = CounterMetricFamily(f"plr_edge_{name}", text)
    if value is not None:
        family.add_metric([], value)
    return family


def _gauges(name: str, text: str, label: str, values: Mapping[str, Number | None]) -> Metric:
    family = GaugeMetricFamily(f"plr_edge_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        if value is not None:
            family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, Number]) -> Metric:
    family = CounterMetricFamily(f"plr_edge_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _by_level(values: Iterable[Number]) -> dict[str, Number]:
    return {str(level): value for level, value in enumerate(values, 1)}


def _cumulative(in_bounds: Iterable[int]) -> list[tuple[str, float]]:
    """Return (upper bound, answers up to it), the infinite bound last."""
    total, buckets = 0, list[tuple[str, float]]()
    for bound, n in zip((*BOUNDS_S, "+Inf"), list(in_bounds), strict=True):
        total += n
        buckets.append((str(bound), total))
    return buckets
