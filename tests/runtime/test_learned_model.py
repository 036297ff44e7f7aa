"""No field of a learned model can be forgotten where it is copied, saved or restored."""

import dataclasses
import json
from array import array
from pathlib import Path

import numpy as np
import pytest
from tiny_network import frames

from plr_edge.bundle.reading import open_bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import LearningConfig
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.runtime.acknowledge import acknowledge
from plr_edge.runtime.holdout import HoldoutSet
from plr_edge.runtime.labelled_batch import History
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.model_state import NOT_STORED
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.publish_gate import Verdict
from plr_edge.runtime.quarantine import LabelFilter
from plr_edge.store import Label

FIELDS = dataclasses.fields(LearnedModel)
CONFIG = LearningConfig(canary=20)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(Path(__file__).parent / "golden" / "bundle")


def labels_of(seqs, bundle):
    """Return labels whose latents are a function of their numbers, as the store would."""
    codec = bundle.codec(CONFIG.bits, CONFIG.pool)
    labels = [
        Label(
            name="",
            predicted="",
            source="",
            time_ns=0,
            seq=int(seq),
            record=np.full(codec.record_bytes, seq, np.uint8),
            taps=np.full(bundle.taps_width, seq, np.float16),
        )
        for seq in seqs
    ]
    return labels, np.arange(len(labels))


def fill(value, number, bundle):
    """Return a value of the same type that differs from a blank one, and from that of others."""
    labels = np.arange(12) % 3
    if isinstance(value, CombinedClassifier):
        taps, features = (
            RNG.standard_normal((12, width)).astype(np.float32)
            for width in (bundle.taps_width, bundle.feature_width)
        )
        value.learn_many(taps, features, labels)
        value.solve()
        value.rehearsed = features[:3]
        value.unknown_below = 0.25
        value.pending.append((taps[:1], labels[:1]))
    elif isinstance(value, LabelFilter):
        for i in range(40):
            value.update(RNG.random(3).astype(np.float32), i % 3)
    elif isinstance(value, HoldoutSet):
        for label in labels_of([3, 4, 5], bundle)[0]:
            value.offer(label.seq % 3)
            value.add(label.record, label.taps, label.seq, label.seq % 3)
    elif isinstance(value, History):
        value.add([0, 1, number], [0, -1, 2])
    elif value is None:
        value = Verdict(passed=True, reason="x", n=9, before=0.5, after=0.6, false_alarm=0.1)
    elif isinstance(value, bool):
        value = not value
    elif isinstance(value, int):
        value = 100 + number
    elif isinstance(value, list):
        value = [f"class {number}", "another"]
    elif isinstance(value, dict):
        value = {"block.weight": np.full(3, number, np.float32)}
    else:
        raise AssertionError(f"how is a {type(value).__name__} filled? add it here")
    return value


def filled(bundle, cls=LearnedModel):
    model = cls.blank(bundle, CONFIG)
    for number, field in enumerate(dataclasses.fields(cls)):
        setattr(model, field.name, fill(getattr(model, field.name), number, bundle))
    return model


def tree(value):
    """Return everything that a value holds, in terms of numbers, texts, lists and tables."""
    if isinstance(value, LatentMemory):
        return tree(value.to_arrays())
    if isinstance(value, np.ndarray):
        return [value.dtype.name, value.shape, value.tolist()]
    if isinstance(value, array | list | tuple):
        return [tree(each) for each in value]
    if isinstance(value, dict):
        return {str(key): tree(each) for key, each in value.items()}
    if hasattr(value, "__dict__"):
        return {name: tree(each) for name, each in vars(value).items()}
    return value.item() if isinstance(value, np.generic) else value


def spoil(value):
    """Change whatever a value holds, in place, as far as it can be changed."""
    if isinstance(value, np.ndarray):
        if value.flags.writeable:
            value[...] = 0
    elif isinstance(value, list | array):
        for each in value:
            spoil(each)
        del value[:]
    elif isinstance(value, tuple):
        for each in value:
            spoil(each)
    elif isinstance(value, dict):
        value.clear()
    elif dataclasses.is_dataclass(value) and type(value).__dataclass_params__.frozen:
        pass
    elif hasattr(value, "__dict__"):
        for each in vars(value).values():
            spoil(each)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_filled_field_differs_from_a_blank_one(field, bundle):
    blank, model = LearnedModel.blank(bundle, CONFIG), filled(bundle)
    assert tree(getattr(model, field.name)) != tree(getattr(blank, field.name))


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_copy_has_every_field_and_shares_none(field, bundle):
    model = filled(bundle)
    before = tree(getattr(model, field.name))
    copied = model.copy()
    assert tree(getattr(copied, field.name)) == before
    spoil(getattr(copied, field.name))
    assert tree(getattr(model, field.name)) == before


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_state_restores_every_field_that_is_not_transient(field, bundle):
    model = filled(bundle)
    state = model.to_state()
    state.metadata = json.loads(json.dumps(state.metadata))
    state.read_labels = lambda seqs: labels_of(seqs, bundle)
    restored = LearnedModel.from_state(state, bundle, CONFIG)
    kept = LearnedModel.blank(bundle, CONFIG) if field.metadata["stored"].transient else model
    assert tree(getattr(restored, field.name)) == tree(getattr(kept, field.name))


def test_what_is_not_restored_is_declared():
    names = [field.name for field in FIELDS if field.metadata["stored"].transient]
    assert names == ["n_quarantined", "history", "verdict", "fell_back"]


class Box:
    """A mutable value that nobody taught to copy itself."""

    def __init__(self):
        self.values = [1]


@dataclasses.dataclass(kw_only=True)
class WithBox(LearnedModel):
    box: Box = dataclasses.field(default_factory=Box, metadata=NOT_STORED)


@dataclasses.dataclass(kw_only=True)
class WithoutMetadata(LearnedModel):
    extra: int = 0


def test_a_field_that_is_not_copied_or_not_stored_is_found(bundle):
    """The checks above, on fields that somebody forgot."""
    model = WithBox.blank(bundle, CONFIG)
    before = tree(model.box)
    spoil(model.copy().box)
    assert tree(model.box) != before
    with pytest.raises(KeyError, match="stored"):
        WithoutMetadata.blank(bundle, CONFIG).to_state()


def test_a_draft_acknowledges_labels_and_the_model_stays_as_it_was(bundle):
    model = LearnedModel.blank(bundle, CONFIG)
    perception, shown = Perception(bundle), frames(40)
    draft = model.draft()
    acknowledge(draft, shown[:4], perception.perceive(shown[:4]))
    before = tree(model)
    assert (model.classes, len(draft.classes)) == ([], 4)
    draft = draft.draft()
    _, batch = acknowledge(draft, shown, perception.perceive(shown))
    assert tree(model) == before
    assert (len(draft.history.labels), len(batch.labels)) == (44, 40)
    draft.learn(batch)  # ridge and the entries held out are shared, and learn in both
    assert len(model.holdout) == len(draft.holdout) == 4
    assert model.classifier.ridge is draft.classifier.ridge
