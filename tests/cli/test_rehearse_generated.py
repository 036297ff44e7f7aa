"""`adapt --rehearse generated`: a state holds statistics by class and nothing of one frame."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from adapting import refused, summary, taught

import plr_edge.assets
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.runtime.class_corrections import without_classes
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.session import Session
from plr_edge.store import LEARNED, UNDONE, opened_for_reading, read_state
from plr_edge.stream import open_stream

BUNDLE = Path(__file__).parents[1] / "runtime" / "golden" / "bundle"
FRUITS = Path(plr_edge.assets.__file__).parent / "fruits" / "train"
NAMES = ("apple_20", "cherry_1", "tomato_1", "cherry_wax_yellow_1")
N = 54
GENERATED = ("--rehearse", "generated")
ENGINES = EngineConfig()


@pytest.fixture
def state(adapt, tmp_path):
    """A state that learned three fruits, with photographs of a fourth beside it."""
    for name in NAMES:
        shutil.copytree(FRUITS / name, tmp_path / "all" / name)
    for name in NAMES[:3]:
        shutil.copytree(FRUITS / name, tmp_path / "three" / name)
    assert summary(adapt("three", *GENERATED, "--json"))["n_frames"] == 3 * N
    return tmp_path / "s"


def answers(state, stream):
    perception = Perception.from_state(open_bundle(BUNDLE), state)
    return [perception.predict_many([frame])[0].label for frame in open_stream(stream)]


def right(state, stream="all", names=NAMES):
    pairs = [(frame.label, answer) for frame, answer in
             zip(open_stream(stream), answers(state, stream), strict=True)
             if frame.label in names]  # fmt: skip
    return np.mean([label == answer for label, answer in pairs])


def test_a_state_holds_nothing_of_a_single_frame(state):
    with closing(sqlite3.connect(state / "store.db")) as database:
        assert database.execute("SELECT count(*) FROM latents").fetchone() == (0,)
    session = Session.resume(open_bundle(BUNDLE), state, ENGINES)
    with session:
        frames = list(open_stream("three"))
        seen = session.perception.perceive(frames)
    latents = seen.latents.reshape(len(frames), -1)
    singles = [latents, seen.taps, seen.features, np.hstack([seen.taps, seen.features])]
    arrays = {name: array for group in read_state(state).arrays.values()
              for name, array in group.items()}  # fmt: skip
    for name in ("tails.samples", "ridge.rows", "memory.seqs", "canary.seqs"):
        assert len(arrays[name]) == 0, name
    for name, array in arrays.items():
        rows = np.atleast_2d(array)
        for single in singles:
            if rows.ndim == 2 and len(rows) and rows.shape[1] == single.shape[1]:
                apart = np.abs(rows[:, None].astype("f8") - single[None]).max(-1)
                assert apart.min() > 1e-4 * np.abs(single).max(), name


def test_it_answers_about_as_well_as_from_stored_latents(state, adapt):
    adapt("three", "--state", "stored")
    known = NAMES[:3]
    assert right(state, "three", known) > right("stored", "three", known) - 0.1 > 0.7


def test_learning_goes_on_after_a_restart(state, adapt):
    before = answers(state, "three")
    result = summary(adapt("all", *GENERATED, "--json"))
    assert (result["n_taught"] + result["n_quarantined"], result["n_known"]) == (N, 3 * N)
    assert right(state) > 0.7
    again = np.mean([a == b for a, b in zip(before, answers(state, "three"), strict=True)])
    assert again > 0.7


@pytest.mark.parametrize("command", ["undo", "forget"])
def test_a_whole_class_is_taken_back(command, state, adapt, plr_edge):
    name = NAMES[1]
    what = [name] if command == "forget" else ["--class", name]
    done = plr_edge(command, str(BUNDLE), *what, "--state", "s")
    assert done.exit_code == 0, done.output
    assert name not in answers(state, "three")
    assert right(state, "three", (NAMES[0], NAMES[2])) > 0.8
    assert name not in taught(state)
    assert name not in read_state(state).facts["classes"]
    if command == "forget":
        files = [path for path in state.rglob("*") if path.is_file()]
        assert not [path for path in files if name.encode() in path.read_bytes()]
    summary(adapt("three", *GENERATED, "--json"))  # it can be taught again
    assert right(state, "three", NAMES[:3]) > 0.7


def test_the_last_class_can_be_taken_back_too(state, plr_edge):
    for name in NAMES[:3]:
        done = plr_edge("undo", str(BUNDLE), "--class", name, "--state", "s")
        assert done.exit_code == 0, done.output
    assert read_state(state).facts["classes"] == []
    assert taught(state) == {}


@pytest.mark.parametrize(
    "filters", [("--last", "3"), ("--label", "5"), ("--class", NAMES[1], "--last", "2")]
)
def test_a_part_of_a_class_is_not_taken_back(filters, state, plr_edge):
    before = taught(state)
    refused(
        plr_edge("undo", str(BUNDLE), *filters, "--state", "s"),
        "statistics only", "--class", "rollback",
    )  # fmt: skip
    assert taught(state) == before


def test_frames_with_another_label_are_refused(state, adapt, tmp_path):
    before = taught(state)
    shutil.move(tmp_path / "three" / NAMES[0], tmp_path / "three" / "pear")
    refused(adapt("three", *GENERATED, "--relabel"), "statistics only", "undo --class")
    assert taught(state) == before


def test_the_kind_of_a_state_cannot_change(state, adapt, plr_edge):
    refused(adapt("all"), "statistics only", "--rehearse generated")
    done = plr_edge("run", str(BUNDLE), "none", "--state", "s")
    refused(done, "statistics only", "plr-edge run")
    summary(adapt("three", "--state", "stored", "--json"))
    refused(adapt("three", "--state", "stored", *GENERATED), "leave out --rehearse generated")
    kinds = [json.loads(plr_edge("inspect", name, "--json").stdout)["rehearse"]
             for name in ("s", "stored")]  # fmt: skip
    assert kinds == ["generated", "stored"]


def test_what_was_not_saved_before_a_crash_is_taught_again(state, adapt, caplog):
    config = LearningConfig(rehearse="generated")
    frames = [frame for frame in open_stream("all") if frame.label == NAMES[3]][:20]
    session = Session(open_bundle(BUNDLE), state, config, ENGINES)
    session.observe_many(frames)
    session.store.close()  # no generation is written, as after a power cut
    with Session(open_bundle(BUNDLE), state, config, ENGINES) as again:
        assert NAMES[3] not in again.learned.classes
    assert "give their frames again" in caplog.text
    result = summary(adapt("all", *GENERATED, "--json"))
    assert result["n_known"] == 3 * N
    assert taught(state)[NAMES[3]] == N


def test_a_crash_while_a_class_is_taken_back_leaves_a_state_to_correct(state, plr_edge):
    bundle, name = open_bundle(BUNDLE), NAMES[0]

    def crash(store, number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        without_classes(bundle, state, ENGINES, [name], crash)
    assert name not in answers(state, "three")
    done = plr_edge("undo", str(BUNDLE), "--class", name, "--state", "s")
    assert done.exit_code == 0, done.output
    with opened_for_reading(state) as store:
        statuses = {x.status for x in store.labels if x.name == name}
    assert statuses == {UNDONE} != {LEARNED}


def test_it_can_be_consolidated(state, plr_edge):
    done = plr_edge("consolidate", str(BUNDLE), "--state", "s", "--budget", "1s")
    assert done.exit_code == 0, done.output
    assert right(state, "three", NAMES[:3]) > 0.7
