"""`plr-edge inspect`: the content of a bundle or state, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def command(path: Path, as_json: bool) -> None:
    """Show the contents of a bundle or a state.

    Prints what PATH contains, and verifies every byte of it.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli.facts import print_facts
    from plr_edge.errors import BundleError
    from plr_edge.store import FILE

    if (path / "manifest.json").exists():
        facts = _bundle_facts(open_bundle(path))
    elif (path / FILE).exists() or (path / "state.json").exists():
        facts = _state_facts(path)
    else:
        raise BundleError(f"{path} is neither a bundle nor a state: no manifest.json, no store.db")
    if as_json:
        click.echo(json.dumps(facts))
        return
    print_facts(facts)


def _bundle_facts(bundle: Any) -> dict[str, Any]:
    files = bundle.manifest["files"]
    return {
        "kind": "bundle",
        "whole": True,
        "backbone": bundle.manifest["backbone"],
        "cut": bundle.manifest["cut"],
        "precision": bundle.precision,
        "input_size": bundle.preprocessing.size,
        "latent": list(bundle.latent_shape),
        "taps": bundle.taps_width,
        "feature": bundle.feature_width,
        "levels": [level.name for level in bundle.levels],
        "frozen_macs": bundle.manifest["frozen_macs"],
        "bytes": {name: entry["bytes"] for name, entry in files.items()},
        "parity": bundle.manifest["parity"],
        "made_with": bundle.manifest["made_with"],
        "frozen_sha256": bundle.frozen_sha256,
    }


def _state_facts(path: Path) -> dict[str, Any]:
    from collections import Counter

    from plr_edge.store import LEARNED, QUARANTINED, opened_for_reading

    with opened_for_reading(path, check_latents=True) as store:
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
    from plr_edge.classifiers.mix import Mix
    from plr_edge.tensors import without_prefix

    own = without_prefix("mix", arrays)
    if not own:
        return None
    rehearsed = float(arrays["beside_rehearsed"][1])
    return {**Mix.from_arrays(own).facts(), "rehearsed_weight": round(rehearsed, 3)}


def _caps(store: Any, n_labels: int) -> dict[str, dict[str, int]]:
    """Return what is used of what may be used, by the settings of the last run that taught."""
    from dataclasses import asdict

    from plr_edge.config import LearningConfig
    from plr_edge.store import MAX_LABELS

    settings = {**asdict(LearningConfig()), **store.facts.get("config", {})}
    return {
        "latents_bytes": {"used": store.labels.n_latent_bytes, "cap": settings["label_bytes"]},
        "labels": {"used": n_labels, "cap": MAX_LABELS},
        "written_today_bytes": {
            "used": store.written_today,
            "cap": settings["write_bytes_per_day"],
        },
    }
