"""The main job by the command line, on real frames."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def folders(tmp_path_factory, demo_frames):
    """Frames of six objects as files: `train/class/NN.png` and `test/class/NN.png`."""
    root = tmp_path_factory.mktemp("frames")
    for i, frame in enumerate(demo_frames):
        folder = root / ("test" if i % 4 == 3 else "train") / frame.label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.image).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def learned(bundle_path, folders, tmp_path_factory, plr_edge):
    """A state that learned all six objects."""
    state = tmp_path_factory.mktemp("state") / "state"
    result = plr_edge(
        "adapt", str(bundle_path), str(folders / "train"), "--state", str(state), "--json"
    )
    assert result.exit_code == 0, result.output
    return state, json.loads(result.stdout)


def test_adapt_learns_every_class_it_is_shown(learned):
    _, summary = learned
    assert summary["n_taught"] == 54
    assert summary["n_classes"] == 6
    assert sum(summary["steps_per_level"]) > 0


def test_predict_answers_held_out_frames_without_torch(bundle_path, folders, learned):
    state, _ = learned
    code = (
        "import sys; from plr_edge.cli import cli\n"
        "try: cli.main(sys.argv[1:], standalone_mode=False)\n"
        "finally: print(sorted({'torch', 'onnx'} & set(sys.modules)), file=sys.stderr)"
    )
    arguments = ["predict", str(bundle_path), str(folders / "test"), "--state", str(state)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip().endswith("[]")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 18
    assert set(lines[0]) == {
        "source", "class", "confidence", "top", "stamp_ns", "latency_ms", "version"
    }  # fmt: skip
    right = [
        line["top"][0][0] == os.path.basename(os.path.dirname(line["source"])) for line in lines
    ]
    assert sum(right) >= 16


def test_a_second_run_goes_on_and_adds_a_class(bundle_path, folders, learned, tmp_path, plr_edge):
    import shutil

    state = tmp_path / "state"
    shutil.copytree(learned[0], state)
    new = tmp_path / "more" / "blue_square"
    new.mkdir(parents=True)
    for i in range(6):
        Image.new("RGB", (64, 64), (0, 0, 200 + i)).save(new / f"{i}.png")
    result = plr_edge(
        "adapt", str(bundle_path), str(tmp_path / "more"), "--state", str(state), "--json"
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["n_taught"], summary["state"]["n_taught"]) == (6, 60)
    assert (summary["n_classes"], summary["state"]["n_classes"]) == (7, 7)
    result = plr_edge("predict", str(bundle_path), str(tmp_path / "more"), "--state", str(state))
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["top"][0][0] for line in lines] == ["blue_square"] * 6


def test_frames_unlike_anything_learned_are_unknown(bundle_path, learned, tmp_path, plr_edge):
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "x").mkdir()
    Image.fromarray(noise).save(tmp_path / "x" / "noise.png")
    arguments = ["predict", str(bundle_path), str(tmp_path / "x"), "--state", str(learned[0])]
    assert json.loads(plr_edge(*arguments).stdout)["class"] == "unknown"
    assert json.loads(plr_edge(*arguments, "--unknown", "off").stdout)["class"] != "unknown"


def test_inspect_says_what_is_there(bundle_path, learned, plr_edge):
    bundle = json.loads(plr_edge("inspect", str(bundle_path), "--json").stdout)
    assert (bundle["kind"], bundle["whole"], bundle["cut"]) == ("bundle", True, "block14")
    state = json.loads(plr_edge("inspect", str(learned[0]), "--json").stdout)
    assert (state["kind"], state["n_taught"], len(state["classes"])) == ("state", 54, 6)


def test_unlabelled_frames_are_answered_and_not_learned(bundle_path, folders, tmp_path, plr_edge):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, file in enumerate(sorted((folders / "train").rglob("*.png"))[:5]):
        (flat / f"{i}.png").write_bytes(file.read_bytes())
    start = ["adapt", str(bundle_path), "--state", str(tmp_path / "s"), "--json"]
    assert plr_edge(*start, str(folders / "train")).exit_code == 0
    result = plr_edge(*start, str(flat))
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["n_frames"], summary["n_unlabelled"]) == (5, 5)
    assert (summary["n_taught"], summary["state"]["n_taught"]) == (0, 54)


def test_standard_input_names_frames_and_labels(bundle_path, folders, tmp_path):
    files = sorted((folders / "train").rglob("*.png"))[:20]
    lines = "".join(f"{file}\t{file.parent.name}\n" for file in files)
    command = [sys.executable, "-m", "plr_edge", "adapt", str(bundle_path), "-", "--json"]
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "s")],
        input=lines, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["n_taught"] == 20


def test_every_schedule_learns(bundle_path, folders, tmp_path, plr_edge):
    for name in ("internal", "basic", "cumulative_weights", "0.2,0.2,0.2,0.2,0.2"):
        state = str(tmp_path / name)
        result = plr_edge(
            "adapt", str(bundle_path), str(folders / "train"), "--state", state,
            "--schedule", name, "--bits", "4", "--latent-memory", "60KB", "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["memory"]["bytes"] <= 60_000
