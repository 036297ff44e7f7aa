"""A traced run: the file is what the Trace Event format asks for, and its times are real."""

import json
import time
from collections import Counter
from itertools import pairwise

import pytest
from fake_boards import make_board

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.meters.hwmon import find_ina3221
from plr_edge.profiling.trace import Run, Sample, Sampler, Span, to_events, trace_run, write_trace

REQUIRED = {"X": {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"},
            "C": {"name", "ph", "ts", "pid", "args"},
            "M": {"name", "ph", "pid", "args"}}  # fmt: skip


def check_trace_events(events):
    """Read events as viewers do; source: Chromium's "Trace Event Format"."""
    latest_us, named = 0.0, set()
    for event in events:
        assert REQUIRED[event["ph"]] <= set(event), event
        assert isinstance(event["pid"], int) and isinstance(event.get("tid", 0), int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
            named.add((event["pid"], event["tid"] if event["name"] == "thread_name" else 0))
            continue
        assert event["ts"] >= latest_us, "events are in the order of their times"
        latest_us = event["ts"]
        assert (event["pid"], event.get("tid", 0)) in named
        if event["ph"] == "X":
            assert event["dur"] >= 0
        else:
            assert event["args"] and all(isinstance(v, int | float) for v in event["args"].values())
    for pid, tid in {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"}:
        spans = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == (pid, tid)]
        for before, after in pairwise(spans):  # a track draws no two at once
            assert before["ts"] + before["dur"] <= after["ts"] + 1


def test_traced_run_is_a_trace_and_its_spans_fill_the_time(bundle_path, demo_frames, tmp_path):
    began_s = time.monotonic()
    config = LearningConfig(train_ratio=2.0)
    run = trace_run(open_bundle(bundle_path), demo_frames, config, n_frames=24, every_s=0.02)
    passed_us = (time.monotonic() - began_s) * 1e6
    write_trace(tmp_path / "t.json", [run, run], {"cpu_model": "x"})
    trace = json.loads((tmp_path / "t.json").read_bytes())
    check_trace_events([e for e in trace["traceEvents"] if e["pid"] != 3])
    assert trace["displayTimeUnit"] == "ms"
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["pid"] == 2]
    counts = Counter(e["name"] for e in spans)
    n_learned, n_trained = counts.pop("learn"), counts.pop("train")
    parts = ("capture", "prepare", "frozen", "adaptive", "answer")
    assert counts == dict.fromkeys(parts, 24) and n_learned + n_trained == 24
    first, last = spans[0]["ts"], max(e["ts"] + e["dur"] for e in spans)
    total = sum(e["dur"] for e in spans)
    assert 0.9 * (last - first) < total <= last - first + 1 < passed_us
    steps = [n for e in spans for n in e["args"].get("steps", {}).values()]
    assert sum(steps) >= n_trained > 0
    memory = [e for e in trace["traceEvents"] if e["ph"] == "C" and e["name"] == "memory"]
    assert len(memory) >= 2 and memory[0]["args"]["process MB"] > 50


def test_counters_are_those_of_the_board(tmp_path):
    fake = make_board("orin-nano-4gb", tmp_path)
    now_ns = 0
    meter = find_ina3221(fake.sysfs, interval_s=None, clock_ns=lambda: now_ns)
    with Sampler([meter], fake.sysfs, tmp_path / "proc", every_s=60,
                 clock_ns=lambda: now_ns) as sampler:  # fmt: skip
        for watts, celsius in ((4.0, 50.0), (6.0, 55.0)):
            fake.set_total_w(watts)
            fake.set_temp_c(celsius)
            now_ns += 50_000_000
            sampler.sample()
    power = [s.values["VDD_IN W"] for s in sampler.samples if s.name == "power"]
    assert power[:2] == pytest.approx([4.5, 5.0])  # trapezoids from 5 over 4 to 6 W
    heat = [s.values["cpu-thermal C"] for s in sampler.samples if s.name == "temperature"]
    assert heat[:2] == [50.0, 55.0]
    assert next(s.at_ns for s in sampler.samples if s.name == "gpu") == 50_000_000
    assert sampler.samples[3].values == {"load %": 37.5}
    left = [s.values for s in sampler.samples if s.name == "memory left"]
    assert left[0] == {"MB": 3_730_000 // 2 * 1024 / 1e6}


def test_what_cannot_be_read_has_no_counter(tmp_path):
    sampler = Sampler([], tmp_path, tmp_path)
    sampler.sample()
    assert sampler.samples == []


def test_times_are_in_microseconds_from_the_first_event():
    spans = [Span("frozen", "perception", 5_000_000, 7_500_000),
             Span("train", "training", 7_500_000, 7_501_000, {"steps": {"head": 1}})]  # fmt: skip
    run = Run("one", spans, [Sample("power", 4_000_000, {"VDD_IN W": 5.0})])
    timed = [e for e in to_events([run]) if e["ph"] != "M"]
    assert [(e["name"], e["ts"], e.get("dur")) for e in timed] == [
        ("power", 0.0, None), ("frozen", 1000.0, 2500.0), ("train", 3500.0, 1.0)]  # fmt: skip
    assert timed[2]["args"] == {"steps": {"head": 1}}


def test_empty_stream_is_refused(bundle_path):
    with pytest.raises(StreamError, match="no frame"):
        trace_run(open_bundle(bundle_path), [])
