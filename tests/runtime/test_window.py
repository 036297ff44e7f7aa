"""Blocks are trained on the central window of the latents, and answer with it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning import observe

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import BundleError, ConfigError, StateError
from plr_edge.replay.latent_memory import SEQ_BYTES, seqs_of
from plr_edge.replay.window import central
from plr_edge.runtime.consolidation import ConsolidationBudget
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.session import Session

TRAINED = LearningConfig(train_ratio=1.0)


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


@pytest.fixture(scope="module")
def state(bundle, demo_frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("window") / "state"
    with Session(bundle, path, TRAINED) as session:
        observe(session, demo_frames[:200])
        session.finish()
        assert session.learned.has_moved
    return path


@pytest.mark.parametrize(("rows", "side", "first"), [(4, 2, 5), (4, 3, 0), (3, 2, 0), (7, 4, 8)])
def test_the_window_is_central(rows, side, first):
    maps = np.arange(float(rows * rows)).reshape(1, 1, rows, rows)
    window = central(maps, side)
    assert window.shape == (1, 1, side, side) and window[0, 0, 0, 0] == first
    assert window[0, 0, -1, -1] == first + (side - 1) * (rows + 1)


def test_what_answers_is_what_was_trained(bundle, state, demo_frames):
    perception = Perception.from_state(bundle, state)
    with Session.resume(bundle, state) as session:
        latents = perception.encode(demo_frames[:16]).latents
        side = bundle.window(None).side
        assert side < bundle.latent_shape[1]
        with torch.no_grad():
            trained = session.learner.blocks(torch.from_numpy(central(latents, side))).numpy()
        answered, exported = perception.features_of(latents), perception.exported_engine()
        np.testing.assert_allclose(answered, trained, atol=1e-3 * np.abs(trained).max())
        assert not np.allclose(answered, exported.run(latents)[0], atol=1e-2)
        assert session.learner.levels[0].shape[1] == side  # goes on as it was


def test_blocks_that_did_not_move_take_whole_latents(bundle, demo_frames):
    session = Session(bundle, None, TRAINED)
    observe(session, demo_frames[:100])
    session.publish()
    latents = session.perception.encode(demo_frames[:4]).latents
    whole = session.perception.exported_engine().run(latents)[0]
    np.testing.assert_array_equal(session.perception.features_of(latents), whole)
    classifier = session.learned.classifier
    assert not session.learned.has_moved and classifier.beside_rehearsed == (1.0, 0.0)
    features = session.perception.perceive(demo_frames[:100]).features
    similarity = classifier.means.scores_many(features).max(axis=1)
    # the threshold was fitted to whole maps: to one sample of a class without itself
    assert similarity.min() - 0.2 < classifier.unknown_below < np.median(similarity)


def test_the_memory_holds_windows_in_the_bytes_of_windows(bundle, demo_frames, tmp_path):
    side, whole = bundle.window(None).side, bundle.codec(4)
    with Session(bundle, tmp_path / "s", TRAINED) as session:
        observe(session, demo_frames[:100])
        memory, codec = session.training.memory, whole.of_window(side)
        assert memory.record_bytes - SEQ_BYTES == codec.record_bytes < 0.6 * whole.record_bytes
        held = memory.records()
        latents = codec.decode(held[:, : codec.record_bytes])
        kept = session.store.labels.with_latents(list(session.store.labels.read()))
        record = {label.seq: label.record for label in kept}
        log = whole.decode(np.stack([record[seq] for seq in seqs_of(held)]))
        np.testing.assert_array_equal(latents, central(log, side))
        session.finish()
        n = len(session.training.memory)
    with Session.resume(bundle, tmp_path / "s") as session:
        again = session.training.memory.records()
        assert len(again) == n and again.shape[1] == held.shape[1]


@pytest.mark.parametrize(
    "config",
    [
        LearningConfig(schedule="classifier"),  # trained on features of whole maps
        LearningConfig(pool=2),
        LearningConfig(window=0),
        LearningConfig(rehearse="generated"),
    ],
)
def test_other_memories_hold_whole_maps(bundle, demo_frames, config):
    session = Session(bundle, None, config)
    observe(session, demo_frames[:40])
    whole = bundle.codec(config.bits, config.pool).record_bytes
    assert session.training.memory.record_bytes - SEQ_BYTES == whole
    session.consolidate(ConsolidationBudget(macs=2e9))
    assert session.learner.has_moved


def test_a_step_costs_the_share_of_the_places(bundle, demo_frames):
    macs = {}
    for side in (None, 0):
        session = Session(bundle, None, LearningConfig(train_ratio=0, window=side))
        observe(session, demo_frames[:100])
        before = session.learner.features.cost.macs
        session.consolidate(ConsolidationBudget(macs=2e9))
        n = session.learner.features.cost.steps_per_level[0]
        macs[side] = (session.learner.features.cost.macs - before) / n
    share = (bundle.window(None).side / bundle.latent_shape[1]) ** 2
    assert macs[None] / macs[0] == pytest.approx(share, rel=0.1)


def test_what_the_gate_refuses_leaves_whole_latents(bundle, demo_frames):
    session = Session(bundle, None, LearningConfig(schedule="classifier"))
    observe(session, demo_frames[:100])
    session.learner.step(level=0)
    assert session.learner.features.window is not None
    session.drop("a test")
    assert session.learner.features.window is None


def test_a_state_keeps_its_window(bundle, state, tmp_path):
    with pytest.raises(StateError, match="give the same --window"):
        Session(bundle, state, replace(TRAINED, window=0))
    with Session(bundle, state, LearningConfig()) as session:
        assert session.config.window == bundle.window(None).side


def test_a_state_of_another_bundle_is_called_so_whatever_its_window(state):
    without_windows = open_bundle(Path(__file__).parent / "golden" / "bundle")
    assert without_windows.windows == {}
    with pytest.raises(StateError, match="another frozen part"):
        Session(without_windows, state, engines=EngineConfig())


def test_a_state_without_a_window_has_whole_latents(bundle, demo_frames, tmp_path):
    with Session(bundle, tmp_path / "old", replace(TRAINED, window=0)) as session:
        observe(session, demo_frames[:100])
        session.finish()
        kept = dict(session.store.facts.get("identity"))
        kept.pop("window")  # as versions before the window wrote it
        session.store.facts.keep(identity=kept, config={"bits": 4})
        answered = session.perception.features_of(
            session.perception.encode(demo_frames[:4]).latents
        )
    with Session.resume(bundle, tmp_path / "old") as session:
        assert session.config.window == 0
        latents = session.perception.encode(demo_frames[:4]).latents
        np.testing.assert_array_equal(session.perception.features_of(latents), answered)


@pytest.mark.parametrize("side", [-1, 1, 9, 10**6])
def test_a_window_that_the_bundle_does_not_have_is_one_line(plr_edge, bundle_path, tmp_path, side):
    command = ["adapt", str(bundle_path), "demo", "--state", str(tmp_path / "s")]
    result = plr_edge(*command, f"--window={side}")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1 and "window" in result.output


def test_the_command_line_reaches_the_session(plr_edge, bundle_path, tmp_path):
    state = str(tmp_path / "state")
    command = ["adapt", str(bundle_path), "demo", "--state", state, "--limit-per-class", "4"]
    result = plr_edge(*command, "--window", "0", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n_taught"] > 0
    result = plr_edge(*command, "--window", "2")
    assert result.exit_code == 2 and "--window" in result.output


def test_a_manifest_with_a_wrong_window_is_refused(bundle):
    from plr_edge.bundle.reading import check_manifest

    manifest = dict(bundle.manifest)
    for broken in (
        {"windows": {"99": manifest["windows"][str(bundle.window(None).side)]}},
        {"windows": {"2": manifest["levels"]}},
        {"input_side_at": [10**9, 0]},
        {"input_side_at": ["a", 0]},
    ):
        with pytest.raises((ValueError, TypeError, KeyError)):
            check_manifest(replace(bundle, manifest={**manifest, **broken}), 10**7)


def test_networks_that_need_maps_of_one_size_have_no_window(tmp_path, monkeypatch):
    from own_networks import HEAD, SIZE

    from plr_edge.backbones import load_backbone
    from plr_edge.export.bundle_export import export_bundle

    code = HEAD + (
        "def make():\n"
        "    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(),\n"
        "        nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 16))\n"
    )
    (tmp_path / "needs_size.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    backbone = load_backbone("needs_size:make", input_size=SIZE)
    cut = backbone.block_names[4]
    made, _ = export_bundle(backbone, cut, tmp_path / "bundle")
    assert made.windows == {} and made.window(None) is None
    with pytest.raises(ConfigError, match="0 stands for whole"):
        made.window(2)
    with pytest.raises(BundleError):
        made.splice({})
