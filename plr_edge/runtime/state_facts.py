"""What a state holds, as a table that fits JSON. Every generation is read and verified."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from plr_edge.classifiers.mix import Mix
from plr_edge.config import LearningConfig
from plr_edge.store import LEARNED, MAX_LABELS, QUARANTINED, Store
from plr_edge.tensors import without_prefix


def state_facts(store: Store) -> dict[str, Any]:
    """Return what `plr-edge inspect` shows.

    Args:
        store: an open store. It may be in use.

    Raises:
        StateError: it is damaged.
    """
    identity, labels = store.facts.get("identity") or {}, list(store.labels)
    damage = store.generations.damage()
    state = store.generations.read(("learning", "classifier"))
    in_use = set(state.facts["in_use"]) if state else set()
    learned = [label for label in labels if label.status == LEARNED]
    taught = Counter(label.name for label in learned)
    remembered = Counter(label.name for label in learned if label.seq in in_use)
    return {
        "kind": "state",
        "whole": not damage,
        "damage": list(damage.values()),
        "learned_with": identity.get("bundle"),
        "frozen_sha256": identity.get("frozen_sha256"),
        "codec": identity.get("codec"),
        "rehearse": identity.get("rehearse", "stored"),
        "n_taught": len(learned),
        "n_quarantined": sum(label.status == QUARANTINED for label in labels),
        "classes": {
            name: {"taught": n, "remembered": remembered[name]} for name, n in taught.items()
        },
        "generations": [info.to_dict() for info in store.generations],
        "version": state.facts["version"] if state else 0,
        "canary": state.facts["verdict"] if state else None,
        "memory": {
            "latents": len(state.arrays["learning"]["memory.seqs"]) if state else 0,
            "budget_bytes": state.facts["memory"]["budget_bytes"] if state else None,
        },
        "schedule": state.facts["schedule"] if state else None,
        "mix": _mix_facts(state.arrays["classifier"]) if state else None,
        "unfinished": store.facts.get("positions", {}),
        "bytes": store.n_bytes,
        "caps": _caps(store, len(labels)),
    }


def _mix_facts(arrays: Any) -> dict[str, Any] | None:
    """Return what the mix of a state answers with. None before the first fit."""
    own = without_prefix("mix", arrays)
    if not own:
        return None
    rehearsed = float(arrays["beside_rehearsed"][1])
    return {**Mix.from_arrays(own).facts(), "rehearsed_weight": round(rehearsed, 3)}


def _caps(store: Store, n_labels: int) -> dict[str, dict[str, int]]:
    """Return what is used of what may be used, by the settings of the last run that taught."""
    settings = {**asdict(LearningConfig()), **store.facts.get("config", {})}
    return {
        "latents_bytes": {"used": store.labels.n_latent_bytes, "cap": settings["label_bytes"]},
        "labels": {"used": n_labels, "cap": MAX_LABELS},
        "written_today_bytes": {
            "used": store.written_today,
            "cap": settings["write_bytes_per_day"],
        },
    }
