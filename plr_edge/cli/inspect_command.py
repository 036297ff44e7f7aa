"""`plr-edge inspect`: what a bundle or state holds, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def command(path: Path, as_json: bool) -> None:
    """Say what the bundle or state at PATH holds, and whether every byte of it is right."""
    import json

    from plr_edge.bundle import open_bundle
    from plr_edge.errors import BundleError
    from plr_edge.store import read_state

    if (path / "manifest.json").exists():
        facts = _bundle_facts(open_bundle(path))
    elif (path / "state.json").exists():
        facts = _state_facts(read_state(path), path)
    else:
        raise BundleError(
            f"{path} is neither a bundle nor a state: no manifest.json, no state.json"
        )
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name:>18}  {value}")


def _bundle_facts(bundle: Any) -> dict[str, Any]:
    files = bundle.manifest["files"]
    return {
        "kind": "bundle",
        "whole": True,
        "backbone": bundle.manifest["backbone"],
        "cut": bundle.manifest["cut"],
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


def _state_facts(state: Any, path: Path) -> dict[str, Any]:
    import numpy as np

    facts, memory = state.facts, state.arrays["memory"]
    counts = np.bincount(memory["labels"], minlength=len(facts["classes"]))
    seen = facts["memory"]["n_seen"]
    return {
        "kind": "state",
        "whole": True,
        "learned_with": facts["bundle"],
        "frozen_sha256": facts["frozen_sha256"],
        "generation": facts["version"],
        "n_taught": facts["n_taught"],
        "classes": {
            name: {"taught": seen.get(str(i), 0), "remembered": int(counts[i])}
            for i, name in enumerate(facts["classes"])
        },
        "memory": {
            "latents": len(memory["labels"]),
            "bytes": int(memory["records"].nbytes + memory["labels"].nbytes),
            "budget_bytes": facts["memory"]["budget_bytes"],
            **facts["codec"],
        },
        "schedule": facts["schedule"],
        "unfinished": facts["positions"],
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
    }
