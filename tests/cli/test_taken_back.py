"""undo, rollback, forget, quarantine, repair, log and inspect, as an operator uses them."""

import json
import os
import shutil
import sys
from dataclasses import replace

import pytest
from PIL import Image

from plr_edge.store import QUARANTINED, UNDONE, Store


@pytest.fixture
def frames(tmp_path):
    for name in ("red", "green", "blue"):
        folder = tmp_path / "frames" / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), name).save(folder / f"{i}.png")
    return tmp_path / "frames"


@pytest.fixture
def state(bundle_path, frames, quick_path, plr_edge):
    done = plr_edge("adapt", str(bundle_path), str(frames), "--state", str(quick_path / "s"),
                    "--train-ratio", "0", "--latent-memory", "2MB")  # fmt: skip
    assert done.exit_code == 0, done.output
    return quick_path / "s"


def logged(plr_edge, state, *options):
    done = plr_edge("log", str(state), "--json", "--last", "1000", *options)
    assert done.exit_code == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def undone(plr_edge, state):
    return {entry["label"] for entry in logged(plr_edge, state) if entry["kind"] == UNDONE
            and "label" in entry}  # fmt: skip


def refused(result, *words):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert all(word in lines[0] for word in words), lines[0]


@pytest.mark.parametrize(
    ("options", "n"),
    [(["--last", "3"], 3), (["--class", "red"], 4), (["--class", "red", "--last", "1"], 1),
     (["--label", "2", "--label", "5"], 2), (["--since", "2000-01-01"], 12),
     (["--label", "1", "--until", "2100-01-01T10:00:00"], 1)],
)  # fmt: skip
def test_labels_are_undone_by_what_is_known_of_them(
    options, n, bundle_path, state, frames, plr_edge
):
    labels = {entry["label"]: entry for entry in logged(plr_edge, state) if "label" in entry}
    done = plr_edge("undo", str(bundle_path), "--state", str(state), *options)
    assert done.exit_code == 0 and f"{n} label{'s' * (n > 1)} undone, {12 - n} left" in done.stdout
    gone = undone(plr_edge, state)
    assert len(gone) == n
    if "red" in options:
        assert {labels[seq]["class"] for seq in gone} == {"red"}
    refused(plr_edge("undo", str(bundle_path), "--state", str(state), "--until", "2000-01-01"),
            "no label", "plr-edge log")  # fmt: skip


def test_labels_are_undone_by_source(bundle_path, state, frames, plr_edge):
    source = str(frames / "green")
    undo = ("undo", str(bundle_path), "--state", str(state), "--source")
    assert plr_edge(*undo, source).exit_code == 0
    entries = logged(plr_edge, state)
    gone = [entry for entry in entries if entry["kind"] == UNDONE and "label" in entry]
    assert len(gone) == 4 and all(entry["source"].startswith(source) for entry in gone)
    refused(plr_edge("undo", str(bundle_path), "--state", str(state)), "--last", "--label")
    inspected = json.loads(plr_edge("inspect", str(state), "--json").stdout)
    assert set(inspected["classes"]) == {"red", "blue"}
    assert inspected["memory"]["budget_bytes"] == 2_000_000  # as it was taught with


def test_a_class_is_forgotten_by_log_and_answers_too(bundle_path, state, frames, plr_edge):
    refused(plr_edge("forget", str(bundle_path), "pink", "--state", str(state)),
            "'pink'", "blue, green, red")  # fmt: skip
    done = plr_edge("forget", str(bundle_path), "green", "--state", str(state))
    assert done.exit_code == 0 and "2 classes are left" in done.stdout
    assert "green" not in plr_edge("log", str(state), "--last", "1000").stdout
    answers = plr_edge("predict", str(bundle_path), str(frames), "--state", str(state)).stdout
    assert all(name != "green" for line in answers.splitlines()
               for name, _ in json.loads(line)["top"])  # fmt: skip


def test_rollback_goes_back_once_and_says_when_it_cannot(
    bundle_path, state, frames, plr_edge, monkeypatch
):
    first = state.with_name("first")
    shutil.copytree(state, first)
    done = plr_edge("rollback", str(first))
    assert done.exit_code == 0 and "back to the bundle as exported; 12 labels" in done.stdout
    refused(plr_edge("rollback", str(first)), "no generation older")
    done = plr_edge("rollback", str(first), "--exported")
    assert done.exit_code == 0 and "0 labels" in done.stdout
    for file in list(frames.rglob("*.png")):  # twice as many as were taught
        shutil.copy(file, file.with_name(f"again_{file.name}"))
    assert plr_edge("adapt", str(bundle_path), str(frames), "--state", str(state),
                    "--train-ratio", "0").exit_code == 0  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        refused(plr_edge("rollback", str(state)), "cannot be written")
        refused(plr_edge("undo", str(bundle_path), "--state", str(state), "--last", "1"),
                "cannot be written")  # fmt: skip
        assert plr_edge("log", str(state)).exit_code == 0
    assert undone(plr_edge, state) == set()
    done = plr_edge("rollback", str(state))
    assert done.exit_code == 0 and "12 labels taught after it are undone" in done.stdout
    assert undone(plr_edge, state) == set(range(13, 25))


def test_quarantined_labels_are_listed_confirmed_and_dropped(bundle_path, state, plr_edge):
    with Store(state) as store:
        held = store.labels.with_latents(list(store.labels))[:3]
        store.teach([replace(x, status=QUARANTINED, source=f"\x1b[2J{x.source}") for x in held])
    listed = plr_edge("quarantine", str(state))
    assert listed.exit_code == 0 and "\x1b" not in listed.output
    assert "3 quarantined" in listed.stdout and "    13  " in listed.stdout
    assert len(logged(plr_edge, state, "--quarantined")) == 3
    refused(plr_edge("quarantine", str(state), "--confirm", "7"), "label 7", "13, 14, 15")
    done = plr_edge("quarantine", str(state), "--confirm", "14", "--drop", "all")
    assert "1 confirmed" in done.stdout and "2 dropped" in done.stdout
    assert undone(plr_edge, state) == {13, 14, 15}
    with Store(state) as store:
        assert [x.seq for x in store.labels.read(12) if x.status == "learned"] == [16]
    refused(plr_edge("quarantine", str(state), "--drop", "13"), "there are none")


def test_a_quarantined_label_without_its_latent_is_not_said_to_be_confirmed(state, plr_edge):
    with Store(state) as store:
        held = store.labels.with_latents(list(store.labels))[:1]
        (seq,) = store.teach([replace(held[0], status=QUARANTINED)])
        with store._database.transaction() as tx:
            tx.delete("latents", [seq])
    done = plr_edge("quarantine", str(state), "--confirm", "all")
    assert "0 confirmed" in done.stdout and "evicted" in done.stderr


def test_what_is_used_stands_beside_what_may_be_used(state, plr_edge):
    caps = json.loads(plr_edge("inspect", str(state), "--json").stdout)["caps"]
    assert set(caps) == {"latents_bytes", "labels", "written_today_bytes"}
    assert caps["labels"]["used"] == 12 and caps["written_today_bytes"]["cap"] == 10**10
    for entry in caps.values():
        assert 0 < entry["used"] < entry["cap"]


def test_a_whole_state_is_not_repaired(state, plr_edge):
    before = {file.name: file.read_bytes() for file in state.rglob("*") if file.is_file()}
    done = plr_edge("repair", str(state))
    assert done.exit_code == 0 and "nothing was changed" in done.stdout
    after = {file.name: file.read_bytes() for file in state.rglob("*") if file.is_file()}
    assert after.keys() == before.keys()
    refused(plr_edge("repair", str(state / "none")), "nothing to repair")


def test_a_name_that_is_no_text_is_taught_logged_and_undone(bundle_path, frames, state, plr_edge):
    other = os.fsencode(frames / "red" / "0.png").replace(b"0.png", b"\xff.png")
    shutil.copy(frames / "red" / "0.png", other)
    done = plr_edge("adapt", str(bundle_path), str(frames), "--state", str(state))
    assert done.exit_code == 0, done.output
    assert any("\\xff.png" in entry.get("source", "") or "\\udcff" in entry.get("source", "")
               for entry in logged(plr_edge, state))  # fmt: skip
    assert plr_edge("log", str(state)).exit_code == 0
    undo = ("undo", str(bundle_path), "--state", str(state), "--source", os.fsdecode(other))
    assert "1 label undone" in plr_edge(*undo).stdout


def test_undo_and_forget_work_with_a_network_of_ones_own(
    tmp_path, frames, quick_path, plr_edge, monkeypatch
):
    (tmp_path / "ownnet.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    conv = lambda a, b: torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, 2, 1),\n"
        "                                            torch.nn.ReLU())\n"
        "    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
        "    return torch.nn.Sequential(conv(3, 8), conv(8, 16), conv(16, 16), pool)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    bundle, state = str(tmp_path / "own"), str(quick_path / "s")
    export = plr_edge("export", "--backbone", "ownnet:net", "--cut", "block2", "--input-size", "32",
                      "-o", bundle)  # fmt: skip
    assert export.exit_code == 0, export.output
    adapt = plr_edge("adapt", bundle, str(frames), "--state", state)
    assert adapt.exit_code == 0, adapt.output
    (tmp_path / "ownnet.py").unlink()  # a robot does not have the code of the network
    monkeypatch.delitem(sys.modules, "ownnet")
    undo = plr_edge("undo", bundle, "--state", state, "--last", "2", "--allow-code")
    assert undo.exit_code == 0 and "--allow-code has no effect" in undo.stderr
    assert undone(plr_edge, state) == {11, 12}
    forget = plr_edge("forget", bundle, "red", "--state", state)
    assert forget.exit_code == 0 and "no effect" not in forget.stderr
