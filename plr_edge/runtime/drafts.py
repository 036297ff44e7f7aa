"""Drafts: copies of what is known, that learn on another thread while the original answers."""

from __future__ import annotations

import copy

from plr_edge.runtime.knowledge import Knowledge


def draft_of(knowledge: Knowledge) -> Knowledge:
    """Return one that can acknowledge labels on another thread; `adopt` takes it over."""
    draft = copy.copy(knowledge)
    draft.classes = list(knowledge.classes)
    draft.perception = copy.copy(knowledge.perception)
    draft.perception.classes = draft.classes
    draft.perception.classifier = copy.copy(knowledge.classifier)
    draft.classifier.means = knowledge.classifier.means.copy()
    draft.admission, draft.canary = copy.deepcopy(knowledge.admission), knowledge.canary.draft()
    return draft


def adopt(knowledge: Knowledge, draft: Knowledge) -> None:
    """Go on with what a draft acknowledged; nothing else was, meanwhile."""
    knowledge.classes.extend(draft.classes[len(knowledge.classes) :])
    knowledge.classifier.means = draft.classifier.means
    knowledge.admission, knowledge.n_quarantined = draft.admission, draft.n_quarantined
    knowledge.canary.restore(draft.canary.to_facts())


def become(knowledge: Knowledge, draft: Knowledge) -> None:
    """Answer as a draft does that began anew."""
    knowledge.classes[:] = draft.classes
    perception, new = knowledge.perception, draft.perception
    perception.classifier, perception.engine = new.classifier, new.engine
    perception.version = new.version
    for name in ("history", "admission", "canary", "n_taught", "n_quarantined", "version",
                 "verdict", "good_weights", "good_rehearsed", "fell_back"):  # fmt: skip
        setattr(knowledge, name, getattr(draft, name))
