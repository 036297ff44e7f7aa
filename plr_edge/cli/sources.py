"""Where the address of a camera comes from: the command line, or what hides its password."""

from __future__ import annotations

import os
from pathlib import Path

from plr_edge.errors import ConfigError


def read_source(given: str) -> str:
    """Return a source, from where `env:NAME` or `file:PATH` says.

    Args:
        given: what stands on the command line.

    Raises:
        ConfigError: the variable or the file is not there or empty, others can read the file, or
            a password stands on the command line.
    """
    from plr_edge.serve.tokens import read_private
    from plr_edge.stream.addresses import without_password

    kind, _, rest = given.partition(":")
    if kind == "env" and rest:
        return _one_line(os.environ.get(rest, ""), f"the environment variable {rest}")
    if kind == "file" and rest and not rest.startswith("//"):
        text = read_private(Path(rest), "write the source into a file that only you can read")
        return _one_line(text.decode(errors="replace"), rest)
    if (shown := without_password(given)) != given:
        raise ConfigError(
            f"{shown[:80]} stands on the command line with its password, where every user of this "
            "machine sees it; write it into a file that only you can read and give file:PATH, or "
            "into an environment variable and give env:NAME"
        )
    return given


def _one_line(text: str, where: str) -> str:
    lines = text.strip().splitlines()
    if len(lines) != 1:
        raise ConfigError(f"{where} holds {len(lines)} lines; write the source there, and no more")
    return lines[0].strip()
