"""The token of a robot: where it is stored, which requests need it, and the check.

Knows the head of a request and not its body: a request without the token is refused before a byte
of the body is read.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import MutableMapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError, may_pass

OPEN_POSTS = frozenset({"/predict"})  # anybody who reaches the address may post here
TOKEN_POSTS = frozenset({"/teach", "/undo", "/rollback", "/pause", "/resume", "/save"})


def read_token(path: Path) -> str:
    """Return the token of a state, and create it at first use. Only the owner can read it.

    Raises:
        ConfigError: the token cannot be read or created.
    """
    file = path / "token"
    try:
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as made:
                made.write(secrets.token_urlsafe(24))
        return file.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read or create {file}: {error.strerror}", can_pass=may_pass(error)
        ) from None


class TokenCheck:
    """Decides by method, path and token whether a request may send a body."""

    def __init__(
        self,
        token: str,
        *,
        open_posts: Set[str] = OPEN_POSTS,
        token_posts: Set[str] = TOKEN_POSTS,
    ) -> None:
        """Check against one token.

        Args:
            token: token that `Authorization: Bearer TOKEN` must carry.
            open_posts: paths that accept a body from everybody.
            token_posts: paths that accept a body only with the token.
        """
        self._token = token.encode()
        self._open, self._with_token = open_posts, token_posts

    def has_token(self, scope: MutableMapping[str, Any]) -> bool:
        """Return whether a request (an ASGI scope) carries the token, in constant time."""
        # all of them, so that a second header never adds a try or hides the first
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        return hmac.compare_digest(given, b"Bearer " + self._token)

    def refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        """Return status and reason if a request with a body must be refused unread."""
        if scope["method"] != "POST":
            return 405, "only GET and POST are supported"
        if scope["path"] in self._with_token:
            if not self.has_token(scope):
                return 401, "the token is missing or wrong; send Authorization: Bearer TOKEN"
        elif scope["path"] not in self._open:
            return 404, "this path does not accept POST"
        return None
