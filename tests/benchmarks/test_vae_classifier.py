import numpy as np
import pytest

from benchmarks.methods.vae_classifier import VaeClassifier


@pytest.mark.slow
def test_one_vae_a_class_tells_real_objects_apart_and_forgets_none(bundle_path, demo_frames):
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.runtime.perception import Perception

    bundle = open_bundle(bundle_path)
    perception = Perception(bundle)
    x = perception.perceive(demo_frames).features
    names = list(dict.fromkeys(frame.label for frame in demo_frames))
    y = np.array([names.index(frame.label) for frame in demo_frames])
    classifier = VaeClassifier(x.shape[1], hidden=24, z_width=4, steps=40, batch=16)
    for first in (0, 3):
        own = (y >= first) & (y < first + 3)
        classifier.learn_many(x[own], y[own])
    assert (classifier.scores_many(x).argmax(1) == y).mean() > 0.9
