"""`plr-edge adapt`: learn from a stream."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.left_out import print_left_out
from plr_edge.cli.options import (
    RenamingCommand,
    allow_code_option,
    bits_option,
    bundle_argument,
    engine_options,
    false_unknown_option,
    json_option,
    latent_memory_option,
    needs_extras,
    new_class_option,
    pool_option,
    printable,
    schedule_option,
    stream_argument,
    stream_options,
    threads_option,
    trust_option,
    window_option,
)
from plr_edge.cli.values import Number, Whole


@click.command("adapt", cls=RenamingCommand, renamed={"--memory": "--latent-memory"})
@bundle_argument
@stream_argument
@click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory of the learned state. What it has learned of STREAM is not taught again.",
)
@latent_memory_option
@bits_option
@pool_option
@window_option
@click.option(
    "--rehearse",
    type=click.Choice(["stored", "generated"]),
    help="Rehearse from stored latents, or from class statistics of the latents: then nothing of a "
    "single frame is kept, and only whole classes can be undone.  [default: stored]",
)
@schedule_option
@click.option(
    "--costs",
    type=click.Path(path_type=Path),
    help="Profile written by `plr-edge profile --json`, for --schedule measured.",
)
@click.option(
    "--train-ratio",
    type=Number(0, 1000),
    help="Multiply-adds of training per multiply-add of perception.",
)
@false_unknown_option
@click.option("--seed", type=Whole(0), help="Random seed.  [default: 0]")
@click.option(
    "--relabel",
    is_flag=True,
    help="Replace the label of frames that were taught with another one, without asking.",
)
@threads_option
@engine_options
@trust_option
@stream_options
@new_class_option
@allow_code_option
@json_option
@needs_extras("train")
def command(bundle: Path, stream: str, state: Path, **options: Any) -> None:
    """Learn a labelled stream.

    Each frame of STREAM is classified first, then learned if it has a label.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli.progress import AdaptProgress
    from plr_edge.robot.options import check_learning
    from plr_edge.runtime.adapt import adapt
    from plr_edge.runtime.session import Session
    from plr_edge.store.discarding import discarded_if_blank
    from plr_edge.stream import open_stream

    opened = open_bundle(bundle, options["trust"])
    config, engines = make_configs(opened, options)
    check_learning(opened, config)
    frames = open_stream(
        stream,
        split=options["split"],
        strict=options["strict"],
        limit_per_class=options["limit_per_class"],
        topic=options["topic"],
        labels=options["labels"],
        white_level=options["white_level"],
    )
    part = options["split"] if options["topic"] is None else options["topic"]
    key = None if stream == "-" else f"{stream}#{part}"
    with (
        discarded_if_blank(state),
        Session(opened, state, config, engines, new_class=options["new_class"]) as session,
        AdaptProgress(frames.n_frames) as progress,
    ):
        relabel = options["relabel"] or (_ask if _is_terminal() else False)
        summary = adapt(session, frames, key=key, relabel=relabel, on_chunk=progress.update)
    if options["as_json"]:
        click.echo(json.dumps(summary.to_dict()))
    else:
        _print_summary(summary, state)
    print_left_out(frames)
    if summary.interrupted:
        raise click.exceptions.Exit(130)


def make_configs(bundle: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Turn options into a `LearningConfig` and an `EngineConfig`, leaving defaults to them."""
    from plr_edge.config import EngineConfig, learning_config
    from plr_edge.profiling.profile import read_step_costs

    engines = EngineConfig(
        n_threads=options["threads"],
        engine=options["engine"],
        providers=options["providers"],
    )
    costs = options["costs"]
    names = ["rehearse", "bits", "pool", "window", "schedule", "train_ratio", "seed"]
    learning = learning_config(
        options["latent_memory"],
        options["false_unknown"],
        step_costs=None if costs is None else read_step_costs(costs, bundle),
        **{name: options[name] for name in names},
    )
    return learning, engines


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(question: str) -> bool:
    return click.confirm(f"{printable(question)}. Replace the old labels?", err=True)


def _print_summary(summary: Any, state: Path) -> None:
    accuracy, kept = summary.prequential_accuracy, summary.state
    correct = f", {accuracy:.1%} correct before learning" if accuracy is not None else ""
    click.echo(
        f"{summary.n_frames} frames, {summary.n_taught} taught{correct}; "
        f"{summary.frames_per_s:.0f} frames/s, {summary.learn_share:.0%} of the time learning"
    )
    if summary.n_known:
        click.echo(f"{summary.n_known} frames not taught again: they were taught before")
    if summary.n_relabelled:
        click.echo(f"{summary.n_relabelled} frames had another label before, which was taken back")
    if summary.n_unlabelled:
        click.echo(f"{summary.n_unlabelled} frames without a label: answered, not learned")
    if summary.n_quarantined:
        click.echo(
            f"{summary.n_quarantined} labels look like mistakes and were not learned; "
            f"list them with `plr-edge log {state} --quarantined`",
            err=True,
        )
    if summary.interrupted:
        click.echo("interrupted; progress is saved, run the command again to resume", err=True)
    click.echo(
        f"saved in {state}, version {summary.version}: "
        f"{kept.n_taught} labels, {kept.n_classes} classes"
    )
