"""Networks of torchvision, timm and others through the whole road: export, adapt, predict.

Each step is a command of its own, as a user gives it, so that one network cannot disturb another.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NETWORKS = (
    *(f"torchvision:{name}" for name in (
        "resnet18", "resnet50", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
        "shufflenet_v2_x1_0", "squeezenet1_1", "densenet121", "regnet_y_400mf", "convnext_tiny",
        "vit_b_16", "swin_t",
    )),
    *(f"timm:{name}" for name in (
        "mobilenetv4_conv_small", "efficientformerv2_s0", "repvit_m0_9", "tiny_vit_5m_224",
        "fastvit_t8", "edgenext_x_small", "vit_tiny_patch16_224", "deit_tiny_patch16_224",
        "tf_efficientnet_lite0",
    )),
)  # fmt: skip
_CONVOLUTIONAL = ("resnet", "mobilenet", "efficientnet", "shufflenet", "squeezenet", "densenet",
                  "regnet", "repvit")  # fmt: skip
_LIMIT_S = 3600


def measure(
    network: str, options: Sequence[str], output: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Export a network in each precision, adapt on five frames of each embedded class, predict.

    Args:
        network: what `--backbone` takes.
        options: more options of the export, such as `--input-shape`.
        output: folder for bundles and states, which are removed again.
        say: takes a line of progress.

    Returns:
        A row: what each step returned, or why it failed.
    """
    folder = output / "networks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    row: dict[str, Any] = {"network": network, "options": list(options)}
    convolutional = any(part in network for part in _CONVOLUTIONAL) or network.endswith(".onnx")
    for precision in ("fp32", "fp16", *(["int8"] if convolutional else [])):
        say(f"{network}: export {precision}")
        start = time.monotonic()
        done, says = _call("export", "--backbone", network, *options, "--precision", precision,
                           "-o", str(folder / precision), "--json")  # fmt: skip
        facts = {"s": round(time.monotonic() - start, 1)}
        if not done:
            row[precision] = {**facts, "failed": says}
            continue
        manifest = json.loads((folder / precision / "manifest.json").read_text())
        row[precision] = {**facts, **manifest["parity"]}
        if precision == "fp32":
            levels = manifest["levels"]
            row |= {"cut": manifest["cut"], "latent": levels[0]["shape"], "n_levels": len(levels),
                    "windows": sorted(manifest["windows"])}  # fmt: skip
            row |= _learned(network, folder, say)
        shutil.rmtree(folder / precision)
    shutil.rmtree(folder, ignore_errors=True)
    return row


def _learned(network: str, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Adapt and predict with a bundle."""
    say(f"{network}: adapt and predict")
    bundle, state = str(folder / "fp32"), str(folder / "state")
    done, says = _call("adapt", bundle, "demo", "--state", state, "--limit-per-class", "5",
                       "--json")  # fmt: skip
    if not done:
        return {"adapt": {"failed": says}}
    report = json.loads(says.splitlines()[-1])
    kept = ("prequential_accuracy", "frames_per_s", "steps_per_level")
    row: dict[str, Any] = {"adapt": {name: report[name] for name in kept}}
    done, says = _call("predict", bundle, "demo", "--state", state, "--split", "test",
                       "--limit-per-class", "3", "--unknown", "off")  # fmt: skip
    if not done:
        return {**row, "predict": {"failed": says}}
    answers = [json.loads(line) for line in says.splitlines() if line.startswith("{")]
    right = sum(Path(one["source"]).parent.name == one["class"] for one in answers)
    return {**row, "predict": {"n": len(answers), "right": right}}


def _call(*arguments: str) -> tuple[bool, str]:
    """Run a command; return whether it succeeded, and its output, or why it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "plr_edge", *arguments], capture_output=True, text=True,
            timeout=_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"did not end in {_LIMIT_S} s"
    if done.returncode == 0:
        return True, done.stdout
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return False, lines[-1][:300]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of the results."""
    lines = [
        "| network | default cut | latent | fp32 cosine | fp16 | int8 | adapt | predict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["network"], row.get("cut", "-"), "x".join(map(str, row.get("latent", [])))]
        for precision in ("fp32", "fp16", "int8"):
            one = row.get(precision, {})
            cosine = one.get("feature_cosine")
            cells.append(one.get("failed", "-")[:60] if cosine is None else f"{cosine:.5f}")
        adapt, predict = row.get("adapt", {}), row.get("predict", {})
        accuracy = adapt.get("prequential_accuracy")
        cells.append(adapt.get("failed", "-")[:60] if accuracy is None else f"{accuracy:.2f}")
        cells.append(f"{predict['right']} of {predict['n']}" if "n" in predict else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
