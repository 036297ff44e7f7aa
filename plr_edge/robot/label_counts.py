"""How many labels of each class are learned and quarantined, as the label log says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from plr_edge.store import LEARNED, QUARANTINED, Label, Store


class LabelCounts:
    """Numbers of labels by class, for any thread to read.

    Attributes:
        learned: labels learned, by class.
        quarantined: labels in quarantine, by class.
    """

    def __init__(self, labels: Iterable[Label] = ()) -> None:
        """Count labels."""
        self.learned: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        for label in labels:
            if label.status == LEARNED:
                self.learned[label.name] += 1
            elif label.status == QUARANTINED:
                self.quarantined[label.name] += 1

    @classmethod
    def of(cls, store: Store) -> LabelCounts:
        """Count the labels of a store."""
        counted, own = store.labels.counts(), cls()
        own.learned.update({name: n for (name, status), n in counted.items() if status == LEARNED})
        own.quarantined.update(
            {name: n for (name, status), n in counted.items() if status == QUARANTINED}
        )
        return own

    def with_added(self, labels: Sequence[Label]) -> LabelCounts:
        """Return the counts with labels that were taught since."""
        added = LabelCounts(labels)
        added.learned.update(self.learned)
        added.quarantined.update(self.quarantined)
        return added

    @property
    def n_learned(self) -> int:
        """Number of labels learned."""
        return self.learned.total()

    @property
    def n_quarantined(self) -> int:
        """Number of labels in quarantine."""
        return self.quarantined.total()
