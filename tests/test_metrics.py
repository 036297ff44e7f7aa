import numpy as np
import pytest

from plr_edge.metrics import (
    accuracy_of,
    backward_transfer,
    forgetting,
    per_class_accuracy,
    running_accuracy,
)

NAN = np.nan
MATRIX = np.array([[0.9, NAN, NAN], [0.8, 0.7, NAN], [0.5, 0.8, 1.0]])


def test_forgetting_counts_from_the_best_and_transfer_from_the_first():
    assert forgetting(MATRIX) == pytest.approx(((0.9 - 0.5) + (0.7 - 0.8)) / 2)
    assert backward_transfer(MATRIX) == pytest.approx(((0.5 - 0.9) + (0.8 - 0.7)) / 2)
    assert np.isnan(forgetting(MATRIX[:1, :1]))


def test_accuracies():
    assert accuracy_of(["a", "b", "b"], ["a", "b", "a"]) == pytest.approx(2 / 3)
    assert per_class_accuracy(["a", "b", "b"], ["a", "b", "a"]) == {"a": 1.0, "b": 0.5}
    assert running_accuracy([1, 1, 1, 1], [1, 0, 0, 1], window=2).tolist() == [1.0, 0.5, 0.0, 0.5]


def test_an_experience_that_nothing_is_tested_of_is_left_out():
    gap = np.insert(np.insert(MATRIX, 1, NAN, axis=0), 1, NAN, axis=1)
    gap[1, 0] = MATRIX[0, 0]
    assert forgetting(gap) == pytest.approx(forgetting(MATRIX))
    assert backward_transfer(gap) == pytest.approx(backward_transfer(MATRIX))
    assert np.isnan(forgetting(np.full((3, 3), NAN)))
