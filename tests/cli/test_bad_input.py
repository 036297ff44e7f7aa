"""What bad input gets: one line, exit code 2, nothing changed."""

import json
import shutil

import pytest
from PIL import Image


@pytest.fixture
def frames(tmp_path):
    for name in ("red", "green"):
        folder = tmp_path / "frames" / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), name).save(folder / f"{i}.png")
    return tmp_path / "frames"


def refused(result, *words):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_a_damaged_bundle_is_refused(bundle_path, frames, tmp_path, plr_edge):
    for name in ("frozen.onnx", "adaptive.onnx"):
        copy = tmp_path / name.replace(".", "_")
        shutil.copytree(bundle_path, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        refused(
            plr_edge("adapt", str(copy), str(frames), "--state", str(tmp_path / "s")),
            name, "sha256",
        )  # fmt: skip
        (copy / name).write_bytes(data[:100])
        refused(plr_edge("inspect", str(copy)), name, "sha256")
    assert not (tmp_path / "s").exists()


def test_a_state_of_another_frozen_part_is_refused(bundle_path, frames, tmp_path, plr_edge):
    state, other = tmp_path / "s", tmp_path / "other"
    assert plr_edge("adapt", str(bundle_path), str(frames), "--state", str(state)).exit_code == 0
    before = (state / "store.db").read_bytes()
    export = ("export", "--input-size", "64", "--cut", "head", "-o", str(other))
    assert plr_edge(*export).exit_code == 0
    for command in ("adapt", "predict"):
        refused(
            plr_edge(command, str(other), str(frames), "--state", str(state)),
            "another frozen part",
        )  # fmt: skip
    assert (state / "store.db").read_bytes() == before


def test_a_damaged_generation_is_named_and_learned_again(bundle_path, frames, tmp_path, plr_edge):
    state = tmp_path / "s"
    adapt = ("adapt", str(bundle_path), str(frames), "--state", str(state))
    assert plr_edge(*adapt).exit_code == 0
    (file,) = (state / "generations").glob("*.adaptive.*")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    result = plr_edge("inspect", str(state))
    assert "digest" in result.output and "whole  False" in result.output
    refused(plr_edge("predict", str(bundle_path), str(frames), "--state", str(state)), "digest")
    assert plr_edge(*adapt).exit_code == 0  # from the labels
    assert "whole  True" in plr_edge("inspect", str(state)).output


def test_a_damaged_database_is_refused_and_repaired(bundle_path, frames, tmp_path, plr_edge):
    state = tmp_path / "s"
    adapt = ("adapt", str(bundle_path), str(frames), "--state", str(state))
    assert plr_edge(*adapt).exit_code == 0
    data = bytearray((state / "store.db").read_bytes())
    at = data.rindex(b"red/0.png")
    data[at] ^= 1
    (state / "store.db").write_bytes(data)
    refused(plr_edge(*adapt), "checksum", "plr-edge repair")
    assert plr_edge("repair", str(state)).exit_code == 0
    assert plr_edge(*adapt).exit_code == 0


def test_unreadable_images_are_skipped_and_named_or_stop_a_strict_run(
    bundle_path, frames, tmp_path, plr_edge
):
    (frames / "red" / "9.png").write_bytes(b"")
    (frames / "green" / "9.png").write_bytes((frames / "green" / "0.png").read_bytes()[:60])
    arguments = ["adapt", str(bundle_path), str(frames), "--state", str(tmp_path / "s")]
    summary = json.loads(plr_edge(*arguments, "--json").stdout)
    assert summary["n_taught"] == 8
    assert [entry["source"][-9:] for entry in summary["skipped"]] == ["een/9.png", "red/9.png"]
    refused(plr_edge(*arguments[:-1], str(tmp_path / "s2"), "--strict"), "9.png")


def test_an_unwritable_state_is_refused(bundle_path, frames, tmp_path, plr_edge):
    (tmp_path / "file").write_text("")
    refused(
        plr_edge("adapt", str(bundle_path), str(frames), "--state", str(tmp_path / "file" / "s")),
        "--state",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "--cut", "block13.project"], ["inside a block", "'block13' and 'block14'"]),
        (["export", "--cut", "blok13"], ["did you mean 'block13'"]),
        (["export", "--cut", "stem"], ["'block0'"]),
        (["export", "--backbone", "mobilnet_v2"], ["did you mean 'mobilenet_v2'", "bir_c3"]),
        (["export", "--backbone", "no.such:thing"], ["ModuleNotFoundError"]),
        (["export", "--weights", "none.safetensors"], ["cannot read"]),
        (["export", "--weights", "model.pth"], ["pickles are refused"]),
        (["inspect", "nowhere"], ["neither a bundle nor a state"]),
        (["predict", "nowhere", "x", "--state", "s"], ["plr-edge export"]),
    ],
)
def test_what_is_unknown_is_named_with_what_exists(
    arguments, words, tmp_path, plr_edge, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    refused(plr_edge(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_schedules_streams_and_sizes_are_checked(bundle_path, frames, tmp_path, plr_edge):
    start = ["adapt", str(bundle_path), str(frames), "--state", str(tmp_path / "s")]
    refused(plr_edge(*start, "--schedule", "basics"), "cumulative_weights")
    refused(plr_edge(*start, "--schedule", "measured"), "plr-edge profile")
    refused(plr_edge(*start, "--latent-memory", "lots"), "8MB")
    refused(plr_edge(*start, "--latent-memory", "100B"), "cannot hold a latent")
    refused(
        plr_edge("adapt", str(bundle_path), "no/such", "--state", str(tmp_path / "s")),
        "a stream is",
    )
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    refused(plr_edge("adapt", str(bundle_path), empty, "--state", str(tmp_path / "s")), "no image")


@pytest.mark.parametrize("label", ["a/b", "x" * 10_000, " ", "unknown", "two\tparts"])
def test_labels_that_no_class_may_have_are_refused(label, bundle_path, frames, tmp_path, plr_edge):
    import csv

    with open(tmp_path / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["path", "label"], [frames / "red" / "0.png", label]])
    result = plr_edge(
        "adapt", str(bundle_path), str(tmp_path / "labels.csv"), "--state", str(tmp_path / "s")
    )
    refused(result, "label")


def test_a_state_in_use_is_refused(bundle_path, frames, tmp_path, plr_edge):
    from plr_edge.store import Store

    store = Store(tmp_path / "s")
    result = plr_edge("adapt", str(bundle_path), str(frames), "--state", str(tmp_path / "s"))
    assert result.exit_code == 75 and "in use" in result.output  # this may pass
    assert result.output.count("\n") == 1
    store.close()


def test_a_stream_without_labels_teaches_nothing_and_says_so(
    bundle_path, frames, tmp_path, plr_edge
):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, file in enumerate(sorted(frames.rglob("*.png"))):
        (flat / f"{i}.png").write_bytes(file.read_bytes())
    state = str(tmp_path / "s")
    refused(plr_edge("adapt", str(bundle_path), str(flat), "--state", state), "label")
    assert plr_edge("adapt", str(bundle_path), str(frames), "--state", state).exit_code == 0
    assert plr_edge("adapt", str(bundle_path), str(flat), "--state", state).exit_code == 0
