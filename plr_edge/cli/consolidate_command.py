"""`plr-edge consolidate`: train the blocks over the latent memory, in one annealed cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import (
    allow_code_option,
    bundle_argument,
    json_option,
    needs_extras,
    state_option,
    threads_option,
    trust_option,
)


@click.command("consolidate")
@bundle_argument
@state_option
@click.option(
    "--budget",
    default="5min",
    show_default=True,
    help="What the training may spend: time such as 90s, 5min or 1h, or multiply-adds such as "
    "500GMAC or 2TMAC.",
)
@threads_option
@trust_option
@allow_code_option
@json_option
@needs_extras("train")
def command(bundle: Path, state: Path, budget: str, **options: Any) -> None:
    """Train the adaptive blocks on what was learned.

    Rehearses the latent memory of a state that no robot uses, with a learning rate that rises and
    then falls to zero. The result answers only if it passes the publish gate. Ctrl-C ends the
    training early and keeps what it gained.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli.progress import ConsolidationProgress
    from plr_edge.config import EngineConfig
    from plr_edge.errors import StateError
    from plr_edge.runtime.consolidation import parse_budget
    from plr_edge.runtime.session import Session

    limits, interrupted = parse_budget(budget), False
    opened = open_bundle(bundle, options["trust"])
    engines = EngineConfig(n_threads=options["threads"], allow_code=options["allow_code"])
    with Session.resume(opened, state, engines) as session:
        if session.learned.classifier.n_classes < 2:
            raise StateError(f"{state} knows fewer than two classes; teach it first")
        before = session.learned.version
        with ConsolidationProgress() as progress:
            try:
                n_steps = session.consolidate(limits, on_progress=progress.update)
            except KeyboardInterrupt:
                interrupted, n_steps = True, progress.n_steps
        session.save("after consolidation")
        learned = session.learned
    verdict = learned.verdict
    facts = {
        "n_steps": n_steps,
        "published": learned.version > before,
        "version": learned.version,
        "rehearsed_weight": learned.classifier.beside_rehearsed[1],
        "verdict": None if verdict is None else vars(verdict),
        "interrupted": interrupted,
    }
    if options["as_json"]:
        click.echo(json.dumps(facts))
    else:
        _print(facts, state)
    if interrupted:
        raise click.exceptions.Exit(130)


def _print(facts: dict[str, Any], state: Path) -> None:
    verdict = facts["verdict"]
    outcome = f"version {facts['version']} answers" if facts["published"] else "not published"
    reason = f" ({verdict['reason']})" if verdict else ""
    click.echo(f"{facts['n_steps']} training steps; {outcome}{reason}")
    if verdict and verdict["n"]:
        click.echo(
            f"held-out labels: {verdict['before']:.1%} correct before, {verdict['after']:.1%} after"
        )
    if facts["published"] and facts["rehearsed_weight"] == 0:
        click.echo("the closed forms answer alone: on held-out labels, training adds nothing yet")
    if facts["interrupted"]:
        click.echo("interrupted; what was trained until then is kept", err=True)
    click.echo(f"saved in {state}")
