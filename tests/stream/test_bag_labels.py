"""The best class of a vision_msgs/Classification, whatever its scores are."""

from types import SimpleNamespace

import pytest

from plr_edge.stream.bag_labels import best_class

NAN, INF = float("nan"), float("inf")


def message(*results):
    return SimpleNamespace(
        results=[SimpleNamespace(class_id=name, score=score) for name, score in results]
    )


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ([("apple", 0.9), ("cherry", NAN)], "apple"),
        ([("cherry", NAN), ("apple", 0.1), ("pear", 0.2), ("plum", NAN)], "pear"),
        ([("cherry", NAN), ("apple", -INF)], "apple"),
        ([("cherry", NAN), ("apple", INF), ("pear", 0.5)], "apple"),
        ([("cherry", NAN)], "cherry"),  # the only one: its score decides nothing
        ([("cherry", 0.0), ("apple", 0.0)], "cherry"),
        ([], None),
    ],
)
def test_a_score_that_is_no_number_never_wins(results, best):
    assert best_class(message(*results)) == best


def test_a_label_without_a_single_score_is_ignored_and_said(caplog):
    assert best_class(message(("apple", NAN), ("cherry", NAN))) is None
    assert "a label with 2 classes has a score of NaN for each" in caplog.text
