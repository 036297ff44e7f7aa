"""The trainer in this process, told things by hand."""

import multiprocessing
from dataclasses import asdict

import numpy as np
import torch

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.protocol import pack
from plr_edge.robot.trainer import Trainer


def test_training_that_diverged_before_the_first_version_begins_at_the_bundle_again(bundle_path):
    """A regression: with no version to go back to, it went on from the diverged weights."""
    facts = {"bundle": str(bundle_path), "config": asdict(LearningConfig()), "memory": None,
             "n_threads": 1, "upto": 0, "trained": False}  # fmt: skip
    _, connection = multiprocessing.Pipe()
    trainer = Trainer(connection, facts, {})
    before = trainer._learner.weights()
    with torch.no_grad():
        for parameter in trainer._learner.blocks.parameters():
            parameter.fill_(1e12)
    rows = np.zeros((0, open_bundle(bundle_path).feature_width), np.float32)
    trainer._take(pack("restore", {}, {"rows": rows}))
    after = trainer._learner.weights()
    assert all(np.array_equal(after[name], before[name]) for name in before)
