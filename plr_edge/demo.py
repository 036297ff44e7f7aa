"""The demo: export, adapt, predict and profile on a small real stream, and report the results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.backbones import load_backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.export.bundle_export import export_bundle
from plr_edge.export.split import default_cut
from plr_edge.files import replace_file
from plr_edge.metrics import (
    accuracy_of,
    backward_transfer,
    forgetting,
    per_class_accuracy,
    running_accuracy,
)
from plr_edge.profiling.page import frame_rows, memory_rows
from plr_edge.profiling.profile import profile_bundles
from plr_edge.report import page as report
from plr_edge.runtime.adapt import adapt
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.prediction import answer
from plr_edge.runtime.session import Session
from plr_edge.stream import Frame, Stream, open_stream
from plr_edge.stream.base import Entry

_MARK = "demo.txt"  # tells a directory that a demo made
_SAMPLES = 16
_QUICK_CLASSES = 4
Say = Callable[[str], None]


@dataclass
class HeldOut:
    """Held-out frames and the outputs of the frozen part, computed once."""

    frames: list[Frame]
    latents: np.ndarray
    taps: np.ndarray


def run_demo(output: Path, *, quick: bool = False, say: Say = print) -> dict[str, Any]:
    """Run the main workflow on the embedded stream, and write `report.html` and `report.json`.

    Args:
        output: directory for bundle, state and report. A state in it is replaced.
        quick: use fewer classes and shorter measurements.
        say: called with a line about each step.

    Returns:
        The contents of report.json.

    Raises:
        ConfigError: the directory cannot be created, or holds what no demo has made.
    """
    started = time.perf_counter()
    _claim(output)
    network = load_backbone("mobilenet_v2")
    bundle, parity = export_bundle(network, default_cut(network), output / "bundle", force=True)
    say(f"export   {bundle.name}: latent cosine to PyTorch {parity.latent_cosine:.7f}")
    learned = _learn(bundle, output, quick, say)
    predicted = _predict_in_a_process(bundle, output)
    wanted = set(learned["classes"])
    pairs = [(label, line["class"]) for label, line in predicted["pairs"] if label in wanted]
    labels, answers = [a for a, _ in pairs], [b for _, b in pairs]
    results = {
        "bundle": bundle.manifest,
        "learned": learned,
        "accuracy": accuracy_of(labels, answers),
        "per_class": per_class_accuracy(labels, answers),
        "predict": {k: v for k, v in predicted.items() if k != "pairs"},
        "parity": asdict(parity),
        "profile": profile_bundles([bundle], runs=10 if quick else 50),
    }
    say(
        f"predict  {len(labels)} held-out frames in a process without torch: "
        f"{results['accuracy']:.1%} correct, peak memory {predicted['peak_rss_bytes'] / 1e6:.0f} MB"
    )
    _write(output, results, predicted["pairs"], wanted)
    results["seconds"] = time.perf_counter() - started
    say(f"profile  in {output / 'report.html'}; everything took {results['seconds']:.0f} s")
    return results


def _claim(output: Path) -> None:
    """Create the directory of a demo. Refuse one with other content, which would be replaced."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in output.iterdir()}
        if names and _MARK not in names and not {"report.json", "report.html"} <= names:
            raise ConfigError(f"{output} is not empty, and no demo has made it; choose another -o")
        (output / _MARK).write_text("`plr-edge demo` made this directory, and may replace it.\n")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; choose another -o") from None


def _learn(bundle: Bundle, output: Path, quick: bool, say: Say) -> dict[str, Any]:
    """Learn object by object, and test on all held-out frames after each."""
    state = output / "state"
    shutil.rmtree(state, ignore_errors=True)
    by_class: dict[str, list[Frame]] = {}
    for frame in open_stream("demo"):
        by_class.setdefault(str(frame.label), []).append(frame)
    classes = list(by_class)[: _QUICK_CLASSES if quick else None]
    with Session(bundle, state, LearningConfig()) as session:
        held_out = _held_out(session.perception, classes)
        rows, began = [], time.perf_counter()
        for name in classes:
            summary = adapt(session, _stream_of(by_class[name]))
            if summary.interrupted:
                raise KeyboardInterrupt
            rows.append(_accuracies(session.perception, held_out, classes))
            say(
                f"adapt    {name:<22} {np.nanmean(rows[-1][: len(rows)]):6.1%} on "
                f"{len(rows)} classes so far"
            )
        seconds = time.perf_counter() - began
        matrix = np.array(rows)
        matrix[np.triu_indices(len(matrix), 1)] = np.nan
        cost = session.learner.features.cost
        return {
            "classes": classes,
            "n_frames": session.learned.n_taught,
            "seconds": seconds,
            "summary": summary.to_dict(),
            "matrix": [[None if np.isnan(x) else float(x) for x in row] for row in matrix],
            "forgetting": forgetting(matrix),
            "backward_transfer": backward_transfer(matrix),
            "running_accuracy": running_accuracy(
                session.learned.history.labels, session.learned.history.predicted
            ).tolist(),
            "shares": list(session.schedule.shares),
            "reach": list(session.schedule.reach),
            "steps_per_level": cost.steps_per_level,
            "step_macs": session.learner.step_macs,
            "perception_macs": session.training.perception_macs,
        }


def _stream_of(frames: list[Frame]) -> Stream:
    entries = [
        Entry(lambda image=frame.image: image, frame.label, frame.stamp_ns, frame.source)  # type: ignore[misc]
        for frame in frames
    ]
    return Stream(entries, n_frames=len(frames))


def _held_out(perception: Perception, classes: list[str]) -> HeldOut:
    frames = [f for f in open_stream("demo", split="test") if f.label in classes]
    seen = [perception.perceive(frames[i : i + 16]) for i in range(0, len(frames), 16)]
    latents = np.concatenate([part.latents for part in seen])
    return HeldOut(frames, latents, np.concatenate([part.taps for part in seen]))


def _accuracies(perception: Perception, held_out: HeldOut, classes: list[str]) -> list[float]:
    outputs = perception.features(held_out.latents, held_out.taps)
    predictions = answer(perception.model, held_out.frames, outputs)
    by_class = per_class_accuracy(
        [str(frame.label) for frame in held_out.frames], [p.label for p in predictions]
    )
    return [by_class[name] for name in classes]


def _predict_in_a_process(bundle: Bundle, output: Path) -> dict[str, Any]:
    """Run `plr-edge predict` as a user would, and read its output."""
    code = (
        "import sys; from plr_edge.cli import cli; from plr_edge.meters import process_memory\n"
        "try: cli.main(sys.argv[1:], standalone_mode=False)\n"
        "finally: print(process_memory()['peak_rss_bytes'], int('torch' in sys.modules), "
        "file=sys.stderr)"
    )
    arguments = ["predict", str(bundle.path), "demo", "--split", "test", "--state"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, str(output / "state")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    peak_bytes, torch_loaded = done.stderr.split()[-2:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    labels = [str(frame.label) for frame in open_stream("demo", split="test")]
    latencies = [line["latency_ms"] for line in lines]
    return {
        "pairs": list(zip(labels, lines, strict=True)),
        "peak_rss_bytes": int(peak_bytes),
        "torch_loaded": torch_loaded == "1",
        "latency_p50_ms": float(np.percentile(latencies, 50)),
        "latency_p99_ms": float(np.percentile(latencies, 99)),
    }


def _write(
    output: Path, results: dict[str, Any], pairs: list[tuple[str, dict[str, Any]]], wanted: set[str]
) -> None:
    replace_file(output / "report.json", json.dumps(results, indent=1).encode())
    sections = [
        *_learning_sections(results),
        _rehearsal_section(results),
        _cost_section(results["profile"]),
        report.section("Frames and answers", report.frames(_samples(pairs, wanted))),
    ]
    report.write_report(output / "report.html", "plr-edge demo", sections)


def _learning_sections(results: dict[str, Any]) -> list[str]:
    """Return the key figures, the accuracy over time, and the accuracy by class."""
    learned = results["learned"]
    matrix = np.array([[np.nan if x is None else x for x in row] for row in learned["matrix"]])
    figures = {
        "correct on held-out frames": f"{results['accuracy']:.1%}",
        "classes learned one by one": str(len(learned["classes"])),
        "mean forgetting": f"{learned['forgetting']:.1%}",
        "taught per second": f"{learned['n_frames'] / learned['seconds']:.0f} frames",
        "predict without torch": f"{results['predict']['peak_rss_bytes'] / 1e6:.0f} MB",
    }
    running = {"accuracy": np.array(learned["running_accuracy"])}
    return [
        report.key_figures(figures),
        report.section(
            "Accuracy over time",
            report.paragraph(
                "Each frame is answered before its label is learned. Mean of the last 50 frames."
            ),
            report.line_plot(running, "frame", "share correct"),
        ),
        report.section(
            "What was kept",
            report.paragraph(
                "Accuracy on held-out frames of each class (column) after learning each (row)."
            ),
            report.matrix_plot(matrix, learned["classes"], "class", "after learning"),
            report.bar_plot({"final accuracy": results["per_class"]}, "held-out accuracy"),
        ),
    ]


def _rehearsal_section(results: dict[str, Any]) -> str:
    learned, steps = results["learned"], results["profile"]["bundles"][0]["steps"]
    names = [level["name"] for level in results["bundle"]["levels"]]
    bars = {
        "share f": dict(zip(names, learned["shares"], strict=True)),
        "reach u": dict(zip(names, learned["reach"], strict=True)),
    }
    rows = [
        {
            "level": name,
            "share f": learned["shares"][i],
            "reach u": learned["reach"][i],
            "steps": learned["steps_per_level"][i],
            "train MMACs per sample": learned["step_macs"][i] / 1e6,
            "step ms (p50)": steps[i]["p50_ms"],
            "autograd MB": steps[i]["saved_bytes"] / 1e6,
        }
        for i, name in enumerate(names)
    ]
    plot = report.bar_plot(bars, "share of rehearsal")
    return report.section("Rehearsal by level", plot, report.table(rows))


def _cost_section(profile: dict[str, Any]) -> str:
    energy = profile["energy_sources"] or [
        f"no counter can be read here: {reason}" for reason in profile["energy_absent"]
    ]
    return report.section(
        "Cost on this machine",
        report.table(frame_rows(profile["bundles"]), "one call"),
        report.table(memory_rows(profile), "memory of a process"),
        report.paragraph("Energy: " + "; ".join(energy)),
    )


def _samples(
    pairs: list[tuple[str, dict[str, Any]]], wanted: set[str]
) -> list[tuple[np.ndarray, str, bool]]:
    shown = []
    frames = open_stream("demo", split="test")
    for frame, (label, line) in zip(frames, pairs, strict=True):
        if label in wanted:
            caption = f"{line['class']} ({line['confidence']:.0%})"
            shown.append((frame.image, caption, line["class"] == label))
    wrong = [entry for entry in shown if not entry[2]][: _SAMPLES // 2]
    step = max(1, len(shown) // (_SAMPLES - len(wrong)))
    return wrong + shown[::step][: _SAMPLES - len(wrong)]
