"""Undo selects labels, and marks them; the rest of the undo is a rebuild from those left."""

import numpy as np
import pytest

from plr_edge.runtime.undo import mark_undone
from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Label, Store


@pytest.fixture
def store(quick_path):
    with Store(quick_path / "s") as opened:
        opened.teach(
            [
                Label(
                    name="ab"[i % 2],
                    predicted="",
                    source=f"{'camera' if i < 4 else 'http'} {i}",
                    time_ns=i * 10**9,
                    status=QUARANTINED if i == 5 else LEARNED,
                    record=np.zeros(4, np.uint8),
                    taps=np.zeros(2, np.float16),
                )
                for i in range(8)
            ]
        )
        yield opened


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"last": 2}, [7, 8]),
        ({"name": "a"}, [1, 3, 5, 7]),
        ({"name": "a", "last": 1}, [7]),
        ({"source": "camera"}, [1, 2, 3, 4]),
        ({"seqs": (2, 6)}, [2, 6]),
        ({"seqs": (2, 6), "statuses": (LEARNED,)}, [2]),
        ({"since_s": 6}, [7, 8]),
        ({"since_s": 1, "until_s": 3}, [2, 3]),
        ({"name": "nobody"}, []),
    ],
)
def test_conditions_add_up(store, conditions, expected):
    assert mark_undone(store, "test", **conditions) == expected
    assert [label.seq for label in store.labels.read(status=UNDONE)] == expected


def test_what_is_undone_is_not_undone_again(store):
    assert mark_undone(store, "test", last=2) == [7, 8]
    assert mark_undone(store, "test", last=2) == [5, 6]
