"""`plr-edge consolidate`: train the blocks over the latent memory, in one annealed cycle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from plr_edge.cli.client import Target

_POLL_S = 0.5


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
@click.option(
    "--listen",
    help="Address of the running `plr-edge run`: HOST:PORT or unix:PATH.  [default: what the robot "
    "of --state says]",
)
@click.option("--stop", is_flag=True, help="End the cycle that the running robot is in.")
@threads_option
@trust_option
@allow_code_option
@json_option
@needs_extras("train")
def command(
    bundle: Path, state: Path, budget: str, listen: str | None, stop: bool, **options: Any
) -> None:
    """Train the adaptive blocks on what was learned.

    Rehearses the latent memory of a state, with a learning rate that rises and then falls to zero.
    The result answers only if it passes the publish gate. Ctrl-C ends the training early and keeps
    what it gained. A robot that uses the state does it while it answers and learns.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli.client import Target
    from plr_edge.cli.progress import ConsolidationProgress
    from plr_edge.cli.running import robot_of
    from plr_edge.config import EngineConfig
    from plr_edge.errors import ConfigError, StateError
    from plr_edge.runtime.consolidation import parse_budget
    from plr_edge.runtime.session import Session

    limits, interrupted = parse_budget(budget), False
    if listen is not None or robot_of(state) is not None:
        _by_robot(Target(listen, state), budget, stop, as_json=options["as_json"])
        return
    if stop:
        raise ConfigError("--stop is for a running robot, and none uses this state")
    opened = open_bundle(bundle, options["trust"])
    engines = EngineConfig(n_threads=options["threads"])
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


def _by_robot(robot: Target, budget: str, stop: bool, *, as_json: bool) -> None:
    """Have a running robot consolidate, or stop, and wait for the end."""
    import json
    import time
    from contextlib import suppress

    from plr_edge.cli.client import answer
    from plr_edge.cli.progress import ConsolidationProgress
    from plr_edge.errors import ConfigError, StateError
    from plr_edge.runtime.consolidation import Progress

    def now() -> dict[str, Any]:
        facts: dict[str, Any] = answer(robot, "GET", "/health", good=(200, 503))["consolidation"]
        return facts

    path = "/consolidate/stop" if stop else "/consolidate"
    answer(robot, "POST", path, {} if stop else {"budget": budget})
    facts, interrupted = now(), False
    with ConsolidationProgress() as progress:
        while facts["now"] is not None:
            run = facts["now"]
            progress.update(Progress(run["share"], run["n_steps"], run["left_s"] or 0.0))
            try:
                time.sleep(_POLL_S)
            except KeyboardInterrupt:
                interrupted = True
                with suppress(ConfigError):  # it may have ended meanwhile
                    answer(robot, "POST", "/consolidate/stop", {})
            facts = now()
    last = facts["last"]
    if as_json:
        click.echo(json.dumps({**last, "interrupted": interrupted}))
    else:
        click.echo(f"{last['n_steps']} training steps at {last['level']}; {last['outcome']}")
    if interrupted:
        raise click.exceptions.Exit(130)
    if last["outcome"].startswith("interrupted"):
        raise StateError(f"the robot did not finish: {last['outcome']}")
