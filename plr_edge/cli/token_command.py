"""`plr-edge token`: the tokens of a state, and its certificate."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("token")
@click.argument("state", type=click.Path(path_type=Path))
@click.option(
    "--rotate",
    type=click.Choice(["viewer", "teacher", "both"]),
    help="Replace this token by a new one. A running robot refuses the old one within a second.",
)
@click.option("--show", type=click.Choice(["viewer", "teacher"]), help="Print only this token.")
def command(state: Path, rotate: str | None, show: str | None) -> None:
    """Check the tokens of STATE, print one, or replace them.

    The viewer's token lets its holder look, the teacher's also change what was learned.
    """
    from plr_edge.errors import ConfigError
    from plr_edge.serve.certificate import FILE, fingerprint_of
    from plr_edge.serve.tokens import FILES, read_token, rotate_token

    if not state.is_dir():
        raise ConfigError(f"{state} is not a state; give the --state of `plr-edge run`")
    for role in FILES:
        if rotate in (role, "both"):
            rotate_token(state, role)
            click.echo(f"the {role}'s token is new; whoever had the old one needs it", err=True)
    if show is not None:
        click.echo(read_token(state, show))
        return
    for role, name in FILES.items():
        read_token(state, role)
        click.echo(f"{role:<8} {state / name}")
    if (state / FILE).is_file():
        pem = (state / FILE).read_text(encoding="ascii")
        click.echo(f"{'tls':<8} {state / FILE}  sha256 {fingerprint_of(pem)}")
