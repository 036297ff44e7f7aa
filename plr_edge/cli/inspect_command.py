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

    Prints what PATH contains, and verifies every byte of it. If a robot uses the state, it is
    asked.
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
    from plr_edge.cli.client import answer
    from plr_edge.cli.running import robot_of
    from plr_edge.runtime.state_facts import state_facts
    from plr_edge.store import opened_for_reading

    robot = robot_of(path)
    if robot is None:
        with opened_for_reading(path, check_latents=True) as store:
            return state_facts(store)
    facts: dict[str, Any] = answer(robot, "GET", "/inspect")
    return facts
