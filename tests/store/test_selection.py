"""Labels are selected by what is known of them; filters add up."""

import pytest
from store.stores import label

from plr_edge.store import select


@pytest.fixture
def labels(store):
    """Labels 1 to 6 of two classes, taught at 1 s to 6 s, from two sources."""
    store.teach([
        label(i * 10**9, "ab"[i % 2], source=f"{'film' if i < 4 else 'api'} {i}")
        for i in range(1, 7)
    ])  # fmt: skip
    return list(store.labels)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"last": 2}, [5, 6]),
        ({"last": 10}, [1, 2, 3, 4, 5, 6]),
        ({"name": "a"}, [2, 4, 6]),
        ({"name": "a", "last": 1}, [6]),
        ({"source": "film"}, [1, 2, 3]),
        ({"source": "film", "name": "b"}, [1, 3]),
        ({"seqs": [5, 2, 99]}, [2, 5]),
        ({"seqs": [5, 2], "name": "a"}, [2]),
        ({"since_s": 2.0, "until_s": 5.0}, [2, 3, 4]),
        ({"until_s": 0.0}, []),
        ({"source": "nowhere"}, []),
    ],
)
def test_filters_add_up(labels, filters, expected):
    assert select(labels, **filters) == expected
